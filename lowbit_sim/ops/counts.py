"""How many elements of an operand its format could not hold: beyond its ends, or below its smallest magnitude.

With y = fp32(x fp32(1 / scale)) + zero point, h the format's largest finite value, h' the next smaller one and l, l'
the same at the lower end, an element is

    clipped       if y >= h + (h - h') / 2 or y <= l - (l' - l) / 2: where rounding to nearest overflows
                  (IEEE 754-2019 section 7.4), whatever the rounding mode; infinities are
    underflowed   if x != 0 but its code's value is 0, and it is not clipped (a wrapped number may become 0)

Scales from the maximum clip nothing but infinities; the half step that a rounded scale may reach beyond the end is
not counted. One pass over the operand and its codes.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.numerics.encode import decode
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FixedFormat,
    FloatFormat,
    IntFormat,
    LogFormat,
)
from lowbit_sim.quant.codes import ROW_ELEMENTS
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.regions import addressing
from lowbit_sim.quant.scaling import AbsMaxScale, MinMaxScale, PowerOfTwoScale, has_zero


@dataclass(frozen=True, kw_only=True)
class OperandCounts:
    """What became of an operand's elements.

    Attributes:
        elements: How many it has.
        clipped: How many lie beyond the format's ends.
        underflowed: How many are not zero but became zero.
    """

    elements: int
    clipped: int = 0
    underflowed: int = 0

    def __add__(self, other: OperandCounts) -> OperandCounts:
        return OperandCounts(
            elements=self.elements + other.elements,
            clipped=self.clipped + other.clipped,
            underflowed=self.underflowed + other.underflowed,
        )


def count_operand(x: Tensor, quantized: QTensor, quantizer: Quantizer) -> OperandCounts:
    """Count the elements that a quantisation clipped and those that it made zero.

    Args:
        x: What was quantised, floating point, without NaN.
        quantized: What became of it.
        quantizer: What quantised it.
    """
    if not x.numel():
        return OperandCounts(elements=0)
    flat = x.detach().resolve_neg().to(torch.float32).contiguous().reshape(-1)
    codes = quantized.codes.reshape(-1)
    run, index = addressing(quantizer.scale_granularity, tuple(x.shape))
    inv = (1.0 / quantized.scale).reshape(-1)[index]
    zeros, mask = _zero_codes(quantized)
    offsets = torch.zeros_like(inv, dtype=torch.int64)
    if quantized.zero_point is not None:
        offsets += quantized.zero_point.reshape(-1)[index]
    low, high = _ends(quantizer, quantized.element_format)
    regions = (
        inv,
        (low - offsets.double()).float(),
        (high - offsets.double()).float(),
        (zeros + offsets).to(torch.int32),
    )
    count = _count_on_cpu if x.device.type == "cpu" else count_on_device
    clipped, vanished = count(flat, codes, regions, mask, run)
    vanished = vanished if has_zero(quantized.element_format) else 0
    return OperandCounts(elements=x.numel(), clipped=clipped, underflowed=vanished)


#: Reciprocal scale, lower and upper threshold and code of zero of each region.
_Regions = tuple[Tensor, Tensor, Tensor, Tensor]


def _count_on_cpu(x: Tensor, codes: Tensor, regions: _Regions, mask: int, run: int) -> tuple[int, int]:
    from lowbit_sim.ops import counts_kernel

    inv, low, high, zeros = (each.numpy() for each in regions)
    return counts_kernel.count(x.numpy(), codes.numpy(), inv, low, high, zeros, mask, run or ROW_ELEMENTS)


def count_on_device(x: Tensor, codes: Tensor, regions: _Regions, mask: int, run: int) -> tuple[int, int]:
    """The counts of `counts_kernel.count` by torch's operations; the device is waited for once.

    Args:
        x: float32 [n].
        codes: Integers [n].
        regions: Reciprocal scales, lower and upper thresholds, codes of zero, each [regions].
        mask: Bits of a code that tell whether it is zero.
        run: Elements in a row of one region; 0 for one region in all.
    """
    shape = (-1, regions[0].numel(), run or x.numel())
    inv, low, high, zeros = (each[:, None] for each in regions)
    x, codes = x.reshape(shape), codes.reshape(shape)
    y = x * inv
    beyond = (y >= high) | (y <= low)
    vanished = ((codes.to(torch.int32) & mask) == zeros) & (x != 0) & ~beyond
    clipped, underflowed = torch.stack([beyond.sum(), vanished.sum()]).tolist()
    return clipped, underflowed


def _ends(quantizer: Quantizer, fmt: ElementFormat) -> tuple[float, float]:
    """The thresholds, infinite where by its rule no finite element reaches them but for the scale's own rounding."""
    top = quantizer.scale.top if isinstance(quantizer.scale, AbsMaxScale) else None
    unclipped = isinstance(quantizer.scale, AbsMaxScale | PowerOfTwoScale | MinMaxScale)
    if isinstance(quantizer.format, BlockFormat) or isinstance(fmt, CodebookFormat) or not unclipped:
        return _thresholds(fmt)
    return _thresholds(fmt) if top is not None and top > fmt.max_value else (-math.inf, math.inf)


def _zero_codes(q: QTensor) -> tuple[int, int]:
    """The code of zero, and the bits that tell it: the sign of a zero does not matter."""
    fmt = q.element_format
    if isinstance(fmt, CodebookFormat):
        return (fmt.values.index(0.0) if has_zero(fmt) else 0), -1 if q.codes.dtype.is_signed else 255
    if isinstance(fmt, FloatFormat | LogFormat):
        return 0, (1 << (fmt.bits - 1)) - 1
    return 0, -1 if q.codes.dtype.is_signed else 255


@functools.cache
def _thresholds(fmt: ElementFormat) -> tuple[float, float]:
    """The values at and beyond which rounding to nearest overflows, below and above."""
    if isinstance(fmt, IntFormat):
        return fmt.qmin - 0.5, fmt.qmax + 0.5
    if isinstance(fmt, FixedFormat):
        return (fmt.qmin - 0.5) * fmt.unit, (fmt.qmax + 0.5) * fmt.unit
    if isinstance(fmt, FloatFormat):
        # In float64: the threshold of float32 itself is no float32.
        high = fmt.max_value + 2.0 ** (fmt.max_exponent - fmt.mantissa_bits - 1)
        return -high, high
    values = decode(
        torch.arange(1 << fmt.bits) if not isinstance(fmt, CodebookFormat) else _indices(fmt), fmt
    )
    finite = values[torch.isfinite(values)].double().unique()
    low, above, below, high = (float(finite[i]) for i in (0, 1, -2, -1))
    return low - (above - low) / 2, high + (high - below) / 2


def _indices(fmt: CodebookFormat) -> Tensor:
    return torch.arange(len(fmt.values))
