"""Requantisation: from an accumulator to the next operand's code.

| class                | code of an accumulator a                                        | as in                  |
|----------------------|-----------------------------------------------------------------|------------------------|
| `FloatRequantizer`   | clip(rint(fp32(fp32(a) scale)) + zero_point)                    | ONNX Runtime, PyTorch  |
| `IntegerRequantizer` | clip(round(a multiplier 2^(shift-31)) + zero_point): "double"   | gemmlowp, TFLite, TOSA |
|                      | the same, rounding "single"                                     | TFLite, CMSIS-NN, TOSA |

The roundings, with s = 31 - shift:

* "double": round(a 2^max(shift, 0) multiplier / 2^31), ties up, then round(that / 2^max(-shift, 0)), ties away from
  zero: SaturatingRoundingDoublingHighMul and RoundingDivideByPOT of gemmlowp's fixedpoint.h (TFLite's
  MultiplyByQuantizedMultiplier; B. Jacob et al., CVPR 2018, section 2.2). It is TOSA's apply_scale_32 with double
  rounding as well, (a multiplier + 2^(s-1) +- 2^30) >> s with the sign of a and the second constant for s > 31 only:
  for a >= 0 the two floors nest into one; for a < 0 the ties' direction takes 2^31 off.
* "single": (a multiplier + 2^(s-1)) >> s. TFLite built with TFLITE_SINGLE_ROUNDING, CMSIS-NN with
  CMSIS_NN_USE_SINGLE_ROUNDING, TOSA's apply_scale_32 without double rounding; with `multiplier_bits` 16 TOSA's
  apply_scale_16, where s = 15 - shift.

Single and double rounding differ on about one value in 2^(1 - shift) for shift < 0, so a description of a machine
names the rule. `requant_reference` is the definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lowbit_sim.arith import requant_reference as reference
from lowbit_sim.arith.requant_reference import quantize_multiplier, shift_range
from lowbit_sim.numerics.catalog import INT8
from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.reference import float32
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

RequantRounding = Literal["double", "single"]

_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def _check_code(what: str, zero_point: int, fmt: IntFormat) -> None:
    if not isinstance(fmt, IntFormat):
        raise TypeError(f"{what} returns codes of an IntFormat, got {fmt!r}")
    if not is_whole(zero_point, fmt.qmin, fmt.qmax):
        raise ValueError(f"a zero point is a code of {fmt}, {fmt.qmin} to {fmt.qmax}, got {zero_point}")


def _check_accumulators(accumulators: Tensor, largest: int) -> None:
    if not isinstance(accumulators, Tensor) or accumulators.dtype not in _INTEGERS:
        got = accumulators.dtype if isinstance(accumulators, Tensor) else type(accumulators).__name__
        raise TypeError(f"a requantiser takes a tensor of integer accumulators, got {got}")
    if accumulators.numel():
        low, high = (int(v) for v in torch.aminmax(accumulators))
        if low < -largest or high >= largest:
            raise ValueError(
                f"this requantiser takes accumulators from -2^{largest.bit_length() - 1} to below "
                f"2^{largest.bit_length() - 1}, got {low if low < -largest else high}"
            )


def _along(values: tuple[float, ...] | tuple[int, ...], x: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    """One value, or one for each index along the axis, shaped to broadcast against x."""
    if len(values) == 1:
        return torch.tensor(values[0], dtype=dtype, device=x.device)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] != len(values):
        raise ValueError(f"{len(values)} scales don't fit axis {axis} of accumulators {list(x.shape)}")
    shape = [1] * x.ndim
    shape[axis] = len(values)
    return torch.tensor(values, dtype=dtype, device=x.device).reshape(shape)


def _codes(scaled: Tensor, zero_point: int, fmt: IntFormat) -> Tensor:
    """Add the zero point and saturate."""
    return (scaled.clamp(fmt.qmin - zero_point, fmt.qmax - zero_point) + zero_point).to(torch.int32)


@dataclass(frozen=True, kw_only=True)
class FloatRequantizer:
    """A float32 scale, round to nearest even, zero point, saturation: ONNX's QLinear operators and PyTorch's.

    The accumulator is converted to float32 (it rounds there from 2^24 on), multiplied by the scale in float32,
    rounded to the nearest integer, ties to even; then the zero point is added and the sum saturates.

    Args:
        scale: Scale of the accumulator over the scale of the result, rounded to float32; a tuple for one scale
            for each index along `axis`.
        zero_point: Code of zero.
        format: Format of the codes.
        axis: Axis of the accumulators along which scales differ.

    Raises:
        ValueError: A scale that is not positive and finite in float32, or a zero point outside the format.
        TypeError: A format that is not an `IntFormat`.
    """

    scale: float | tuple[float, ...]
    zero_point: int = 0
    format: IntFormat = INT8
    axis: int = -1

    def __post_init__(self) -> None:
        _check_code("a FloatRequantizer", self.zero_point, self.format)
        if not self.scales:
            raise ValueError("a FloatRequantizer needs a scale, got none")
        for scale in self.scales:
            if not 0 < scale < math.inf:
                raise ValueError(f"a scale is positive and finite in float32, got {scale}")

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales as float32 values."""
        given = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        return tuple(float32(float(scale)) for scale in given)

    def __str__(self) -> str:
        return f"fp32 scale, nearest_even -> {self.format}"

    def __call__(self, accumulators: Tensor) -> Tensor:
        """Requantise.

        Args:
            accumulators: Integers of any shape, below 2^53 in magnitude.

        Returns:
            int32 codes of the same shape.

        Raises:
            TypeError: Not an integer tensor.
            ValueError: Larger accumulators, or a shape that the scales don't fit.
        """
        _check_accumulators(accumulators, 1 << 53)
        scale = _along(self.scales, accumulators, self.axis, torch.float32)
        return _codes(torch.round(accumulators.to(torch.float32) * scale), self.zero_point, self.format)

    def code(self, accumulator: int, channel: int = 0) -> int:
        """The definition: the code of one accumulator, with the scale of a channel."""
        scaled = reference.scaled_float(accumulator, self.scales[channel])
        fmt = self.format
        return int(min(max(scaled, fmt.qmin - self.zero_point), fmt.qmax - self.zero_point)) + self.zero_point


@dataclass(frozen=True, kw_only=True)
class IntegerRequantizer:
    """An integer multiplier and a shift: what integer-only inference runs. `from_scale` finds them.

    Args:
        multiplier: Q0.31 (or Q0.15) multiplier, 0 to 2^(multiplier_bits - 1) - 1; a tuple for one for each index
            along `axis`.
        shift: Exponent of the multiplier, positive to multiply; -31 to 30, for 16 bits -47 to 14. As many.
        rounding: "double" or "single" (see the module).
        zero_point: Code of zero.
        format: Format of the codes.
        axis: Axis of the accumulators along which multipliers differ.
        multiplier_bits: 32, or 16 with rounding "single": then accumulators may have 48 bits.

    Raises:
        ValueError: A value outside these, or a multiplier and a shift of different lengths.
        TypeError: A format that is not an `IntFormat`.
    """

    multiplier: int | tuple[int, ...]
    shift: int | tuple[int, ...]
    rounding: RequantRounding = "double"
    zero_point: int = 0
    format: IntFormat = INT8
    axis: int = -1
    multiplier_bits: int = 32

    def __post_init__(self) -> None:
        _check_code("an IntegerRequantizer", self.zero_point, self.format)
        if self.rounding not in get_args(RequantRounding):
            raise ValueError(unknown("requantisation rounding", self.rounding, get_args(RequantRounding)))
        if self.multiplier_bits not in (16, 32):
            raise ValueError(f"a multiplier has 32 or 16 bits, got multiplier_bits={self.multiplier_bits}")
        if self.multiplier_bits == 16 and self.rounding != "single":
            raise ValueError(f"a 16-bit multiplier rounds once: rounding is 'single', got {self.rounding!r}")
        self._check_multipliers()

    def _check_multipliers(self) -> None:
        multipliers, shifts = self._multipliers, self._shifts
        if len(multipliers) != len(shifts) or not multipliers:
            raise ValueError(f"got {len(multipliers)} multipliers and {len(shifts)} shifts")
        lowest, highest = shift_range(self.multiplier_bits)
        for multiplier, shift in zip(multipliers, shifts, strict=True):
            if not is_whole(multiplier, 0, (1 << (self.multiplier_bits - 1)) - 1):
                raise ValueError(
                    f"a multiplier lies from 0 to 2^{self.multiplier_bits - 1} - 1, got {multiplier}"
                )
            if not is_whole(shift, lowest, highest):
                raise ValueError(f"a shift lies from {lowest} to {highest}, got {shift}")

    @classmethod
    def from_scale(
        cls,
        scale: float | tuple[float, ...],
        *,
        rounding: RequantRounding = "double",
        zero_point: int = 0,
        format: IntFormat = INT8,
        axis: int = -1,
        multiplier_bits: int = 32,
    ) -> IntegerRequantizer:
        """The requantiser of a scale (or one for each index along `axis`), by `quantize_multiplier`.

        Raises:
            ValueError: As the class, and as `quantize_multiplier`.
        """
        scales = scale if isinstance(scale, tuple) else (scale,)
        pairs = [quantize_multiplier(value, multiplier_bits) for value in scales]
        return cls(
            multiplier=tuple(multiplier for multiplier, _ in pairs),
            shift=tuple(shift for _, shift in pairs),
            rounding=rounding,
            zero_point=zero_point,
            format=format,
            axis=axis,
            multiplier_bits=multiplier_bits,
        )

    @property
    def _multipliers(self) -> tuple[int, ...]:
        return self.multiplier if isinstance(self.multiplier, tuple) else (self.multiplier,)

    @property
    def _shifts(self) -> tuple[int, ...]:
        return self.shift if isinstance(self.shift, tuple) else (self.shift,)

    def __str__(self) -> str:
        return f"{self.multiplier_bits}-bit multiplier and shift, {self.rounding} rounding -> {self.format}"

    def __call__(self, accumulators: Tensor) -> Tensor:
        """Requantise.

        Args:
            accumulators: Integers of any shape within 32 bits; within 48 bits for a 16-bit multiplier.

        Returns:
            int32 codes of the same shape.

        Raises:
            TypeError: Not an integer tensor.
            ValueError: Larger accumulators, also after the left shift of "double"; or a shape that the multipliers
                don't fit.
        """
        _check_accumulators(accumulators, 1 << (31 if self.multiplier_bits == 32 else 47))
        wide = accumulators.to(torch.int64)
        multiplier = _along(self._multipliers, wide, self.axis, torch.int64)
        shift = _along(self._shifts, wide, self.axis, torch.int64)
        right = self.multiplier_bits - 1 - shift
        half = torch.bitwise_left_shift(torch.ones_like(right), right - 1)
        if self.rounding == "double":
            _check_accumulators(torch.bitwise_left_shift(wide, shift.clamp(min=0)), 1 << 31)
            first = torch.where(wide >= 0, 1 << 30, -(1 << 30))
            half = half + torch.where(right > 31, first, 0)
        scaled = torch.bitwise_right_shift(wide * multiplier + half, right)
        return _codes(scaled, self.zero_point, self.format)

    def code(self, accumulator: int, channel: int = 0) -> int:
        """The definition: the code of one accumulator, with the multiplier of a channel."""
        multiplier, shift = self._multipliers[channel], self._shifts[channel]
        if self.rounding == "double":
            scaled = reference.scaled_twice(accumulator, multiplier, shift)
        else:
            scaled = reference.scaled_once(accumulator, multiplier, self.multiplier_bits - 1 - shift)
        return min(max(scaled + self.zero_point, self.format.qmin), self.format.qmax)
