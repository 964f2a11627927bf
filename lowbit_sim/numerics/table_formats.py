"""Formats whose values are spaced unevenly: logarithmic, posit and codebook.

They are finite sets of float32 values in a table; `reference_tables.py` defines their codes and rounding.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from lowbit_sim.numerics.float_formats import MAX_UNITS
from lowbit_sim.numerics.whole import is_whole

#: Bits that two neighbouring values may need in their common unit: see `CodebookFormat`.
MAX_PAIR_BITS = 44


@dataclass(frozen=True, kw_only=True)
class LogFormat:
    """Sign and exponent, no mantissa: the values are zero and powers of the radix.

    A code is sign | field. Field 0 is zero; field f is 2^odd * radix^(f - bias). Radix 2 is the format of LUQ's
    neural gradients (Chmiel et al. 2023), radix 4 with its odd and even grids that of 4-bit training's two-phase
    rounding (Sun et al. 2020): both [sign 1, exponent 3, mantissa 0].

    Args:
        exponent_bits: 1 to 8.
        radix: 2 or 4.
        bias: Field of the value 1 (or 2, if odd); by default 2^(exponent_bits - 1) - 1.
        odd: Twice the values: with radix 4 the odd powers of two. Only for radix 4.
        name: A name for messages and reports.

    Raises:
        ValueError: Parameters out of range, or values that float32 can't hold.
    """

    exponent_bits: int
    radix: int = 2
    bias: int | None = None
    odd: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if not is_whole(self.exponent_bits, 1, 8):
            raise ValueError(
                f"a logarithmic format has 1 to 8 exponent bits, got exponent_bits={self.exponent_bits}"
            )
        if self.radix not in (2, 4):
            raise ValueError(f"a logarithmic format's radix is 2 or 4, got radix={self.radix}")
        if self.bias is not None and not is_whole(self.bias, -1000, 1000):
            raise ValueError(f"a logarithmic format's bias is a whole number, got bias={self.bias}")
        if self.odd and self.radix != 4:
            raise ValueError("only radix 4 has an odd grid: pass odd=False")
        lowest, highest = self.exponent_of(1), self.exponent_of(self.max_code)
        if lowest < -149 or highest > 127:
            raise ValueError(
                f"bias={self.zero_exponent_field} puts values outside float32: powers of two from {lowest} to "
                f"{highest}, float32 holds -149 to 127"
            )

    @property
    def zero_exponent_field(self) -> int:
        """The field whose value is 1 (or 2, if odd)."""
        return (1 << (self.exponent_bits - 1)) - 1 if self.bias is None else self.bias

    def exponent_of(self, field: int) -> int:
        """The power of two of a field that is not 0."""
        return (field - self.zero_exponent_field) * (self.radix // 2) + int(self.odd)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 1 + self.exponent_bits

    @property
    def max_code(self) -> int:
        """Code of the largest value."""
        return (1 << self.exponent_bits) - 1

    @property
    def max_value(self) -> float:
        """The largest value."""
        return 2.0 ** self.exponent_of(self.max_code)

    @property
    def unit(self) -> float | None:
        """The smallest positive value if the largest is at most 65535 of them, else None."""
        unit = 2.0 ** self.exponent_of(1)
        return unit if self.max_value <= MAX_UNITS * unit else None

    def __str__(self) -> str:
        phase = ",odd" if self.odd else ""
        return self.name or f"log<{self.exponent_bits},{self.radix},{self.zero_exponent_field}{phase}>"


@dataclass(frozen=True, kw_only=True)
class PositFormat:
    """Posits as in the Posit Standard (2022): sign, regime, exponent, fraction; tapered precision.

    A code is the bit pattern, 0 to 2^bits - 1; read as two's complement it orders the values. 0 is zero, 2^(bits-1)
    is NaR, which NaN becomes. The standard fixes exponent_bits=2.

    Args:
        bits: Width of a code, 3 to 16.
        exponent_bits: 0 to 3.

    Raises:
        ValueError: Parameters out of range, or values that float32 can't hold.
    """

    bits: int
    exponent_bits: int = 2

    def __post_init__(self) -> None:
        if not is_whole(self.bits, 3, 16):
            raise ValueError(f"a posit format has 3 to 16 bits, got bits={self.bits}")
        if not is_whole(self.exponent_bits, 0, 3):
            raise ValueError(
                f"a posit format has 0 to 3 exponent bits, got exponent_bits={self.exponent_bits}"
            )

    @property
    def nan_code(self) -> int:
        """Code of NaR."""
        return 1 << (self.bits - 1)

    @property
    def max_value(self) -> float:
        """maxPos; the smallest positive value, minPos, is its reciprocal."""
        return 2.0 ** ((self.bits - 2) << self.exponent_bits)

    @property
    def unit(self) -> float | None:
        """minPos if maxPos is at most 65535 of them, else None."""
        unit = 1.0 / self.max_value
        return unit if self.max_value <= MAX_UNITS * unit else None

    @property
    def name(self) -> str:
        """The catalogue's name, posit8, or with its exponent bits if they are not the standard's, posit<8,1>."""
        return f"posit{self.bits}" if self.exponent_bits == 2 else f"posit<{self.bits},{self.exponent_bits}>"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class CodebookFormat:
    """Any ascending list of values; a code is an index into it.

    Args:
        values: 2 to 65536 finite float32 values, strictly ascending. Zero need not be among them.
        name: A name for messages and reports.

    Raises:
        TypeError: `values` is not a sequence of numbers.
        ValueError: Values that don't ascend or are no float32; or neighbours of so different magnitudes that the
            points between them can't be exact in float64 (in units of their common power of two they need more than
            44 bits).
    """

    values: tuple[float, ...]
    name: str = "codebook"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked_values(self.values))
        for i, bits in enumerate(self._pair_bits):
            if bits > MAX_PAIR_BITS:
                raise ValueError(
                    f"codebook values {self.values[i]!r} and {self.values[i + 1]!r} need {bits} bits in their common "
                    f"unit, more than {MAX_PAIR_BITS}: the points between them would not be exact"
                )

    @cached_property
    def _pair_bits(self) -> tuple[int, ...]:
        return tuple(pair_bits(low, high) for low, high in zip(self.values, self.values[1:], strict=False))

    @property
    def max_random_bits(self) -> int:
        """The most random bits for which stochastic rounding's thresholds are exact in float64."""
        return min(32, 52 - max(self._pair_bits))

    @property
    def bits(self) -> int:
        """Width of a code."""
        return (len(self.values) - 1).bit_length()

    @property
    def max_value(self) -> float:
        """The largest magnitude at which no value of that sign is clipped: the smaller of the two ends' magnitudes.

        If all values have one sign, the largest magnitude.
        """
        low, high = self.values[0], self.values[-1]
        return min(-low, high) if low < 0 < high else max(abs(low), abs(high))

    @cached_property
    def unit(self) -> float | None:
        """The largest power of two of which every value is a whole number, at most 65535; else None."""
        exponents = [_lowest_bit(v) for v in self.values if v]
        unit = 2.0 ** min(exponents)
        return unit if max(map(abs, self.values)) <= MAX_UNITS * unit else None

    def __str__(self) -> str:
        return self.name


def _checked_values(values: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise TypeError(f"codebook values are a sequence of numbers, got {values!r}") from None
    if not 2 <= len(found) <= 1 << 16:
        raise ValueError(f"a codebook has 2 to 65536 values, got {len(found)}")
    for i, value in enumerate(found):
        if not math.isfinite(value):
            raise ValueError(f"codebook values are finite, got values[{i}]={value!r}")
        try:
            single = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            single = math.inf
        if single != value:
            raise ValueError(
                f"codebook values are float32 values, got values[{i}]={value!r}; the nearest is {single!r}"
            )
        if i and found[i - 1] >= value:
            raise ValueError(
                f"codebook values ascend strictly, got values[{i - 1}]={found[i - 1]!r} before values[{i}]={value!r}"
            )
    return found


def _lowest_bit(value: float) -> int:
    """The exponent of the lowest set bit of a number that is not 0."""
    exact = Fraction(value)
    numerator = abs(exact.numerator)
    return (numerator & -numerator).bit_length() - exact.denominator.bit_length()


def pair_bits(low: float, high: float) -> int:
    """Bits of the larger magnitude of two numbers (not both 0) in units of the largest power of two dividing both."""
    unit = min(_lowest_bit(v) for v in (low, high) if v)
    return (max(abs(Fraction(low)), abs(Fraction(high))) / Fraction(2) ** unit).numerator.bit_length()
