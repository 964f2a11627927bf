"""The result of quantising: codes and what they mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.numerics.encode import decode as decode
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
    PositFormat,
)

_INT8_MAX = 127


def code_dtype(fmt: Format) -> torch.dtype:
    """The smallest torch dtype that holds every code.

    Integers' and fixed point's codes are signed numbers, all others unsigned bit patterns or indices.
    """
    fmt = element_format(fmt)
    if isinstance(fmt, IntFormat | FixedFormat) and fmt.signed:
        return torch.int8 if fmt.bits <= 8 else torch.int16
    return torch.uint8 if fmt.bits <= 8 else torch.int32 if fmt.bits < 32 else torch.int64


@dataclass(frozen=True, kw_only=True)
class QTensor:
    """A quantised tensor. Plain data, not a tensor subclass.

    Invariants:
        * `codes` has the shape of the quantised tensor, is contiguous, and has dtype
          `code_dtype(format)`. Integer and fixed-point formats: codes lie in [qmin, qmax]. Others: bit patterns, or
          indices into a codebook.
        * `scale` is float32, positive and finite. With `block` = 0 it broadcasts against `codes`; with blocks its
          shape is [..., ceil(L / block)] for codes [..., L], and element j has scale j // block.
        * `zero_point` is None, or int32 of the scale's shape (integer formats only).
        * The value of an element is fp32((code - zero_point) * scale), one float32 multiply; for formats
          whose codes are not whole numbers fp32(value(code) * scale).

    Attributes:
        codes: The codes.
        scale: The scales.
        format: The format of the codes; a `BlockFormat`'s elements are what the codes mean.
        zero_point: The codes of zero, or None for 0.
        block: Elements along the last axis that share a scale; 0 without blocks.
    """

    codes: Tensor
    scale: Tensor
    format: Format
    zero_point: Tensor | None = None
    block: int = 0

    @property
    def shape(self) -> torch.Size:
        """Shape of the quantised tensor."""
        return self.codes.shape

    @property
    def element_format(self) -> ElementFormat:
        """The format of the codes: that of a block format's elements, else the format itself."""
        return element_format(self.format)

    def dequantize(self) -> Tensor:
        """The values, float32."""
        return self.values() * self.expanded_scale()

    def values(self) -> Tensor:
        """What enters a float multiplier: the values before scaling, less the zero point, float32."""
        if self.zero_point is not None:
            return self.integers().to(torch.float32)
        return decode(self.codes, self.element_format)

    def integers(self) -> Tensor:
        """What enters an integer multiplier: values before scaling in units of the format, less the zero point.

        int8 where that holds them all (unsigned codes of up to 7 bits too, and their distances from a zero point),
        else uint8, int16 or int32.

        Raises:
            TypeError: A format whose values are not whole multiples of one unit (`unit` is None).
            ValueError: Codes of NaN or infinity.
        """
        fmt = self.element_format
        if isinstance(fmt, IntFormat | FixedFormat):
            return self._whole_codes(isinstance(fmt, IntFormat) and fmt.qmax - fmt.qmin <= _INT8_MAX)
        if fmt.unit is None:
            raise TypeError(f"codes of {self.format} are not integers, nor whole multiples of one unit")
        # Exact: the unit is a power of two (whose reciprocal float32 may not hold), the quotient at most 65535.
        multiples = decode(self.codes, fmt).double() / fmt.unit
        if _has_special_values(fmt) and not self.codes.is_meta and not torch.isfinite(multiples).all():
            raise ValueError(f"codes of {self.format} hold NaN or infinity, which no integer is")
        return multiples.to(_multiple_dtype(fmt))

    def _whole_codes(self, narrow: bool) -> Tensor:
        """Codes that are whole numbers, less the zero point; `narrow` where int8 holds any difference of two."""
        if self.zero_point is not None:
            dtype = torch.int8 if narrow else torch.int32
            return self.codes.to(dtype) - self.expanded_zero_point().to(dtype)
        return self.codes.view(torch.int8) if narrow and self.codes.dtype is torch.uint8 else self.codes

    def expanded_scale(self) -> Tensor:
        """The scales in a shape that broadcasts against the codes: each block's repeated along the last axis."""
        return self._expanded(self.scale)

    def expanded_zero_point(self) -> Tensor:
        """The zero points likewise; 0 where there are none."""
        if self.zero_point is None:
            return torch.zeros_like(self.expanded_scale(), dtype=torch.int32)
        return self._expanded(self.zero_point)

    def _expanded(self, values: Tensor) -> Tensor:
        if not self.block:
            return values
        return values.repeat_interleave(self.block, dim=-1)[..., : self.codes.shape[-1]]


def element_format(fmt: Format) -> ElementFormat:
    """The format of single numbers behind a format: a block format's element, else the format itself."""
    return fmt.element if isinstance(fmt, BlockFormat) else fmt


def _multiple_dtype(fmt: ElementFormat) -> torch.dtype:
    assert fmt.unit is not None
    largest = _largest_magnitude(fmt) / fmt.unit
    return torch.int8 if largest <= 127 else torch.int16 if largest <= 32767 else torch.int32


def _has_special_values(fmt: ElementFormat) -> bool:
    if isinstance(fmt, FloatFormat):
        return fmt.has_nan or fmt.has_infinity
    return isinstance(fmt, PositFormat)


def _largest_magnitude(fmt: ElementFormat) -> float:
    # A codebook's max_value is the smaller of its two ends.
    return max(map(abs, fmt.values)) if isinstance(fmt, CodebookFormat) else fmt.max_value
