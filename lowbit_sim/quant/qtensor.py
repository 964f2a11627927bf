"""The result of quantising: codes and what they mean."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.reference import float_value


def code_dtype(fmt: Format) -> torch.dtype:
    """The smallest torch dtype that holds every code (float formats' codes are unsigned bit patterns)."""
    if isinstance(fmt, IntFormat) and fmt.signed:
        return torch.int8 if fmt.bits <= 8 else torch.int16
    return torch.uint8 if fmt.bits <= 8 else torch.int32


@dataclass(frozen=True, kw_only=True)
class QTensor:
    """A quantised tensor. Plain data, not a tensor subclass.

    Invariants:
        * `codes` has the shape of the quantised tensor, is contiguous, and has dtype
          `code_dtype(format)`. Integer formats: codes lie in [qmin, qmax]. Float formats: bit patterns.
        * `scale` is float32, positive and finite, and broadcasts against `codes`; the granularity is its shape.
        * `zero_point` is None, or int32 of the scale's shape (integer formats only).
        * The value of an element is fp32((code - zero_point) * scale), one float32 multiply; for float
          formats fp32(value(code) * scale).

    Attributes:
        codes: The codes.
        scale: The scales.
        format: The format of the codes.
        zero_point: The codes of zero, or None for 0.
    """

    codes: Tensor
    scale: Tensor
    format: Format
    zero_point: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """Shape of the quantised tensor."""
        return self.codes.shape

    def dequantize(self) -> Tensor:
        """The values, float32."""
        if isinstance(self.format, FloatFormat):
            return decode(self.codes, self.format) * self.scale
        return self.integers().to(torch.float32) * self.scale

    def integers(self) -> Tensor:
        """What enters a multiplier: codes, less the zero point where there is one (then int32).

        Raises:
            TypeError: A float format.
        """
        if isinstance(self.format, FloatFormat):
            raise TypeError(f"codes of {self.format} are not integers")
        return self.codes if self.zero_point is None else self.codes.to(torch.int32) - self.zero_point


def decode(codes: Tensor, fmt: FloatFormat) -> Tensor:
    """The values of a float format's codes, float32, by table up to 16 bits and by bit fields above."""
    if fmt.bits <= 16:
        return _table(fmt).to(codes.device)[codes.to(torch.int64)]
    return torch.from_numpy(_decode_fields(codes.cpu().numpy().astype(np.int64), fmt)).to(codes.device)


@functools.cache
def _table(fmt: FloatFormat) -> Tensor:
    """The values of all codes in order, float32."""
    return torch.tensor([float_value(code, fmt) for code in range(1 << fmt.bits)], dtype=torch.float32)


def _decode_fields(codes: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    """`reference.float_value` for whole arrays."""
    magnitude = codes & ((1 << (fmt.bits - 1)) - 1)
    field = magnitude >> fmt.mantissa_bits
    mantissa = magnitude & ((1 << fmt.mantissa_bits) - 1)
    exponent = np.maximum(field, 1) - fmt.bias - fmt.mantissa_bits
    implicit = np.where(field > 0, 1 << fmt.mantissa_bits, 0)
    values = np.ldexp((implicit + mantissa).astype(np.float64), exponent)
    if not fmt.has_subnormals:
        values = np.where(field == 0, 0.0, values)
    values = np.where(magnitude > fmt.max_code, np.nan, values)
    if fmt.infinity_code is not None:
        values = np.where(magnitude == fmt.infinity_code, np.inf, values)
    return np.where(codes >> (fmt.bits - 1) != 0, -values, values).astype(np.float32)
