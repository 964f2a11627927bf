"""From scaled tensors to codes, for any format and granularity."""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.numerics.encode import encode
from lowbit_sim.numerics.formats import ElementFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.qtensor import code_dtype, decode
from lowbit_sim.quant.regions import addressing

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
        x: float32, contiguous; NaN only where the format has NaN.
        scale: float32 of the granularity's scale shape.
        zero_point: int32 of that shape, or None.
        granularity: Which elements share a scale.
        fmt: The format of the codes.
        rounding: How a scaled value becomes a code.
        stream: Address of the random bits; element i of x in row-major order draws the i-th.
    """
    codes = torch.empty(x.shape, dtype=code_dtype(fmt))
    run, index = addressing(granularity, tuple(x.shape))
    inv = (1.0 / scale).reshape(-1)[index]
    offsets = None if zero_point is None else zero_point.to(torch.int64).reshape(-1)[index].numpy()
    flat, out = x.reshape(-1).numpy(), codes.reshape(-1).numpy()
    encode(flat, inv.numpy(), offsets, run or ROW_ELEMENTS, fmt, rounding, stream, out)
    return codes


def rounded(x: Tensor, fmt: ElementFormat) -> Tensor:
    """The values of a format nearest to those of x (ties to even, saturating), unscaled: float32."""
    scale = torch.ones((1,) * x.ndim, dtype=torch.float32)
    return decode(to_codes(x.contiguous(), scale, None, PerTensor(), fmt, Rounding(), None), fmt)
