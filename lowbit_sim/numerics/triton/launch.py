"""Launches the kernels: `encode.encode` for tensors on a GPU.

A program quantises a tile of neighbours, 16 for each of its threads: loads are 16 bytes wide, and a thread computes
each Philox block that it needs once. A tensor whose size is no multiple of 16 gives up the wide loads.
"""

from __future__ import annotations

import functools
import math
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from lowbit_sim.numerics.formats import ElementFormat, FixedFormat, FloatFormat, IntFormat, TableFormat
from lowbit_sim.numerics.random import Stream, draw_width
from lowbit_sim.numerics.reference import overflow_code
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding, RoundingMode
from lowbit_sim.numerics.tables import table_of
from lowbit_sim.numerics.triton.floats import quantize_to_floats
from lowbit_sim.numerics.triton.integers import quantize_to_integers
from lowbit_sim.numerics.triton.scales import LONG, ONE, SHORT
from lowbit_sim.numerics.triton.tables import quantize_to_table

#: Elements of a program.
TILE = 2048
_WARPS = 4

#: Elements that may share one look-up of their scale.
_LARGEST_PIECE = 16

#: Rounding modes whose codes of integers have a path of their own.
_BOUNDED_MODES = (RoundingMode.NEAREST_EVEN, RoundingMode.STOCHASTIC)


def encode_on_device(
    x: Tensor,
    inv: Tensor,
    zero_points: Tensor | None,
    run: int,
    fmt: ElementFormat,
    rounding: Rounding,
    stream: Stream | None,
    codes: Tensor,
) -> None:
    """Fill `codes` with the codes of fp32(x * inv), on the device of x.

    Args:
        x: float32 [n], contiguous; NaN only where the format has NaN.
        inv: float32 [channels], the reciprocal scales.
        zero_points: int32 [channels], or None for 0; integer and fixed-point formats only.
        run: Element i belongs to channel (i // run) % channels; 0 for one channel in all.
        fmt: The format.
        rounding: Mode and overflow; one that `encode.check_rounding` accepts.
        stream: Address of the random bits; needed for stochastic rounding only.
        codes: Integer [n], contiguous, written.

    Raises:
        ValueError: Zero points for a format that has none.
    """
    if not isinstance(fmt, IntFormat | FixedFormat) and zero_points is not None:
        raise ValueError(f"{fmt} has no zero point")
    if not x.numel():
        return
    kernel, tensors, numbers, constants = _kernel_of(fmt, rounding, x, inv, zero_points, codes)
    draws, drawn = _draws(rounding, stream)
    places = (x.numel(), max(run, 1), inv.numel())
    constants |= drawn | _scales(x.numel(), run, inv.numel())
    grid = (triton.cdiv(x.numel(), TILE),)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        kernel[grid](
            *tensors,
            *places,
            *numbers,
            *draws,
            **constants,
            MODE=MODE_CODES[rounding.mode],
            TILE=TILE,
            num_warps=_WARPS,
            # Contracted into a multiply-add, the product with the reciprocal would not be rounded to float32.
            enable_fp_fusion=False,
        )


def _kernel_of(
    fmt: ElementFormat, rounding: Rounding, x: Tensor, inv: Tensor, zero_points: Tensor | None, codes: Tensor
) -> tuple[Any, tuple[Tensor, ...], tuple[int, ...], dict[str, Any]]:
    """The format's kernel, the tensors and numbers that it is given, and what is compiled in."""
    if isinstance(fmt, FloatFormat):
        return quantize_to_floats, (x, inv, codes), (), _float_constants(fmt, rounding)
    if isinstance(fmt, IntFormat | FixedFormat):
        tensors = (x, inv, inv if zero_points is None else zero_points, codes)
        length = fmt.fraction_length if isinstance(fmt, FixedFormat) else 0
        constants = _integer_constants(length, rounding) | {"HAS_ZERO_POINTS": zero_points is not None}
        return quantize_to_integers, tensors, (length, fmt.qmin, fmt.qmax), constants
    table, numbers = _table_on(fmt, x.device)
    return quantize_to_table, (x, inv, *table, codes), numbers, {"SEARCH_STEPS": numbers[0].bit_length()}


def _draws(rounding: Rounding, stream: Stream | None) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The address of the random bits, and what is compiled in."""
    if not rounding.is_stochastic:
        return (0, 0, 0, 0, 0), {"RANDOM_BITS": 0, "ALIGNED": True}
    assert stream is not None
    words = (_as_int32(word) for word in (stream.seed, stream.operand, stream.step, stream.site))
    aligned = stream.offset % (128 // draw_width(rounding.random_bits)) == 0
    return (*words, stream.offset), {"RANDOM_BITS": rounding.random_bits, "ALIGNED": aligned}


def _as_int32(word: int) -> int:
    """The same 32 bits as a signed number: Triton types an argument by its value, and compiles for each type."""
    return word - (1 << 32) if word >> 31 else word


def _scales(size: int, run: int, channels: int) -> dict[str, Any]:
    if channels == 1 or not run:
        return {"LAYOUT": ONE.value, "PIECE": 1, "PERIODIC": False}
    layout = LONG if run >= TILE else SHORT
    piece = 1 if layout is LONG else math.gcd(run, _LARGEST_PIECE)
    return {"LAYOUT": layout.value, "PIECE": piece, "PERIODIC": run * channels < size}


def _integer_constants(fraction_length: int, rounding: Rounding) -> dict[str, bool]:
    wrap = rounding.overflow == "wrap"
    quick = rounding.mode in _BOUNDED_MODES and rounding.random_bits <= 8
    return {"WRAP": wrap, "BOUNDED": quick and not wrap and not fraction_length}


def _float_constants(fmt: FloatFormat, rounding: Rounding) -> dict[str, Any]:
    return {
        "MANTISSA_BITS": fmt.mantissa_bits,
        "MIN_EXPONENT": fmt.min_exponent,
        "SUBNORMALS": fmt.has_subnormals,
        "MAX_CODE": fmt.max_code,
        "OVERFLOW": overflow_code(fmt, rounding),
        "NAN_CODE": fmt.nan_code or 0,
        "SIGN_SHIFT": fmt.bits - 1,
        "CEILING": _ceiling(fmt) if rounding.mode == RoundingMode.NEAREST_EVEN else 0.0,
    }


def _ceiling(fmt: FloatFormat) -> float:
    """2^(max_exponent + 2), or 0 where the powers of two that round to nearest are not all normal float32 numbers."""
    highest = fmt.max_exponent + 2 + 23 - fmt.mantissa_bits
    fits = fmt.has_subnormals and fmt.min_exponent >= -126 and highest <= 127 and fmt.mantissa_bits <= 21
    return 2.0 ** (fmt.max_exponent + 2) if fits else 0.0


@functools.lru_cache(maxsize=256)
def _table_on(fmt: TableFormat, device: torch.device) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
    """The table on the device, its last index, and the codes of the negative zero and of NaN (or -1)."""
    table = table_of(fmt)
    arrays = (
        (table.values, torch.float32),
        (table.thresholds, torch.float64),
        (table.low_takes_tie, torch.int32),
        (table.codes, torch.int32),
    )
    tensors = tuple(torch.from_numpy(array).to(device=device, dtype=dtype) for array, dtype in arrays)
    return tensors, (len(table.values) - 1, table.negative_zero, table.nan)
