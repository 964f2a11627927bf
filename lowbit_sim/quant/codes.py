"""From scaled tensors to codes, for any format and granularity."""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.numerics import triton_support
from lowbit_sim.numerics.encode import encode
from lowbit_sim.numerics.formats import ElementFormat
from lowbit_sim.numerics.memory import empty
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.not_a_number import NotANumberError
from lowbit_sim.quant.qtensor import code_dtype, decode
from lowbit_sim.quant.regions import by_run, run_of

#: Elements that one row of a kernel's work holds when a tensor has a single scale.
ROW_ELEMENTS = 1 << 14


def to_codes(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    granularity: Granularity,
    fmt: ElementFormat,
    rounding: Rounding,
    stream: Stream | None,
) -> Tensor:
    """round(fp32(x * fp32(1 / scale))) + zero_point, saturated or wrapped: codes in the shape of x.

    Args:
        x: float32, contiguous.
        scale: float32 of the granularity's scale shape.
        zero_point: int32 of that shape, or None.
        granularity: Which elements share a scale.
        fmt: The format of the codes.
        rounding: How a scaled value becomes a code.
        stream: Address of the random bits; element i of x in row-major order draws the i-th.

    Raises:
        NotANumberError: x, on the CPU, holds NaN; elsewhere it may hold none but where the format has NaN.
    """
    shape = tuple(x.shape)
    codes = empty(shape, code_dtype(fmt), x.device)
    run = run_of(granularity, shape)
    # An IEEE division on every device; torch's `1.0 / scale` is this and a multiplication by 1.
    inv = by_run(scale.reciprocal(), granularity, shape)
    offsets = None if zero_point is None else by_run(zero_point, granularity, shape)
    if triton_support.uses_triton(x.device):
        from lowbit_sim.numerics.triton.launch import encode_on_device

        encode_on_device(x.reshape(-1), inv, offsets, run, fmt, rounding, stream, codes.reshape(-1))
        return codes
    offsets = None if offsets is None else offsets.to(torch.int64).numpy()
    flat, out = x.reshape(-1).numpy(), codes.reshape(-1).numpy()
    nans = encode(flat, inv.numpy(), offsets, run or ROW_ELEMENTS, fmt, rounding, stream, out)
    if nans:
        raise NotANumberError(f"{nans} of {flat.size} elements to be rounded to {fmt} are NaN")
    return codes


def rounded(x: Tensor, fmt: ElementFormat) -> Tensor:
    """The values of a format nearest to those of x (ties to even, saturating), unscaled: float32."""
    scale = torch.ones((1,) * x.ndim, dtype=torch.float32, device=x.device)
    return decode(to_codes(x.contiguous(), scale, None, PerTensor(), fmt, Rounding(), None), fmt)
