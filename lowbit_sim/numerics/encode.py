"""The one place that knows which code serves which format: checks, encoding and decoding.

The definition is `reference.encode_value` and `reference.decode_value`; what is here returns the same bits
for whole arrays. numba is imported by the first call of `encode`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
)
from lowbit_sim.numerics.memory import empty
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import decode_value
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.threads import refuse_flushed_subnormals


def check_rounding(fmt: Format, rounding: Rounding) -> None:
    """Refuse a rounding that the format can't have.

    Raises:
        ValueError: Wrapping into a range that is not the whole of an integer's codes, an infinity where there is
            none, or more random bits than a codebook's values leave room for.
    """
    overflow = rounding.overflow
    if isinstance(fmt, BlockFormat):
        if overflow != "saturate":
            raise ValueError(f"elements of {fmt} saturate: overflow must be 'saturate', got {overflow!r}")
        check_rounding(fmt.element, rounding)
    elif isinstance(fmt, IntFormat | FixedFormat):
        if overflow == "infinity":
            raise ValueError(f"{fmt} has no infinity: overflow must be 'saturate' or 'wrap'")
        if overflow == "wrap" and fmt.symmetric:
            raise ValueError(f"{fmt} leaves out a code, so it can't wrap: pass symmetric=False")
    elif isinstance(fmt, FloatFormat):
        if overflow == "wrap":
            raise ValueError(f"{fmt} can't wrap: overflow must be 'saturate' or 'infinity'")
        if overflow == "infinity" and not (fmt.has_infinity or fmt.has_nan):
            raise ValueError(f"{fmt} has neither infinity nor NaN: overflow must be 'saturate'")
    elif overflow != "saturate":
        raise ValueError(f"{fmt} can only saturate: overflow must be 'saturate', got {overflow!r}")
    elif isinstance(fmt, CodebookFormat) and rounding.random_bits > fmt.max_random_bits:
        raise ValueError(
            f"the values of {fmt} leave room for {fmt.max_random_bits} random bits in float64, "
            f"got random_bits={rounding.random_bits}"
        )


def code_range(fmt: Format) -> tuple[int, int]:
    """The smallest and the largest code (of an element, for a block format)."""
    if isinstance(fmt, BlockFormat):
        return code_range(fmt.element)
    if isinstance(fmt, IntFormat | FixedFormat):
        return fmt.qmin, fmt.qmax
    if isinstance(fmt, CodebookFormat):
        return 0, len(fmt.values) - 1
    return 0, (1 << fmt.bits) - 1


def encode(
    x: np.ndarray,
    inv: np.ndarray,
    zero_points: np.ndarray | None,
    inner: int,
    fmt: ElementFormat,
    rounding: Rounding,
    stream: Stream | None,
    codes: np.ndarray,
) -> int:
    """Fill `codes` with the codes of fp32(x * inv).

    Args:
        x: float32 [n]. Where the format has no NaN, the codes of NaNs mean nothing.
        inv: float32 [channels], the reciprocal scales.
        zero_points: int64 [channels], or None for 0; integer and fixed-point formats only.
        inner: Run length of a channel: element i belongs to channel (i // inner) % channels.
        fmt: The format.
        rounding: Mode and overflow; one that `check_rounding` accepts.
        stream: Address of the random bits; needed for stochastic rounding only.
        codes: Integer [n], written.

    Returns:
        The number of NaNs in x.

    Raises:
        ValueError: Zero points for a format that has none.
        RuntimeError: Subnormals are flushed to zero on this thread.
    """
    from lowbit_sim.numerics import kernels

    refuse_flushed_subnormals()
    if isinstance(fmt, IntFormat | FixedFormat):
        offsets = np.zeros(1, dtype=np.int64) if zero_points is None else zero_points
        return kernels.quantize_to_integers(x, inv, offsets, inner, fmt, rounding, stream, codes)
    if zero_points is not None and zero_points.any():
        raise ValueError(f"{fmt} has no zero point")
    if isinstance(fmt, FloatFormat):
        return kernels.quantize_to_floats(x, inv, inner, fmt, rounding, stream, codes)
    from lowbit_sim.numerics import table_kernel

    return table_kernel.quantize_to_table(x, inv, inner, fmt, rounding, stream, codes)


def decode(codes: Tensor, fmt: ElementFormat) -> Tensor:
    """The values of codes, float32, exactly: by multiplying, by table up to 16 bits, by bit fields above."""
    if codes.is_meta:
        return torch.empty_like(codes, dtype=torch.float32)
    if isinstance(fmt, IntFormat | FixedFormat):
        values = empty(tuple(codes.shape), torch.float32, codes.device).copy_(codes)
        return values if fmt.unit == 1.0 else values.mul_(fmt.unit)
    if fmt.bits <= 16 and codes.device.type == "cpu" and codes.numel():
        return _looked_up(codes, fmt)
    if fmt.bits <= 16:
        return _decoding_table(fmt, codes.device)[codes.to(torch.int64)]
    assert isinstance(fmt, FloatFormat)
    return _decode_fields(codes.to(torch.int64), fmt)


def _looked_up(codes: Tensor, fmt: ElementFormat) -> Tensor:
    from lowbit_sim.numerics.decode_kernel import look_up

    table = _decoding_table(fmt, codes.device)
    # The kernel does not ask whether an index is one.
    if codes.dtype != torch.uint8 or table.numel() < 256:
        low, high = (int(code) for code in torch.aminmax(codes))
        if low < 0 or high >= table.numel():
            raise IndexError(f"codes of {fmt} are from 0 to {table.numel() - 1}, got {low} to {high}")
    values = empty(tuple(codes.shape), torch.float32)
    look_up(codes.reshape(-1).numpy(), table.numpy(), values.reshape(-1).numpy())
    return values


@functools.cache
def _decoding_table(fmt: ElementFormat, device: torch.device) -> Tensor:
    """The values of all codes from 0 on, float32."""
    values = [decode_value(code, fmt) for code in range(code_range(fmt)[1] + 1)]
    return torch.tensor(values, dtype=torch.float32, device=device)


def _decode_fields(codes: Tensor, fmt: FloatFormat) -> Tensor:
    """`reference.float_value` for whole int64 tensors: a significand times a power of two, exactly, in float64."""
    magnitude = codes & ((1 << (fmt.bits - 1)) - 1)
    field = magnitude >> fmt.mantissa_bits
    significand = magnitude & ((1 << fmt.mantissa_bits) - 1)
    significand = torch.where(field > 0, significand + (1 << fmt.mantissa_bits), significand)
    exponent = field.clamp(min=1) - fmt.bias - fmt.mantissa_bits
    values = significand.double() * ((exponent + 1023) << 52).view(torch.float64)
    if not fmt.has_subnormals:
        values = torch.where(field == 0, 0.0, values)
    values = torch.where(magnitude > fmt.max_code, math.nan, values)
    if fmt.infinity_code is not None:
        values = torch.where(magnitude == fmt.infinity_code, math.inf, values)
    return torch.where(codes >> (fmt.bits - 1) != 0, -values, values).to(torch.float32)
