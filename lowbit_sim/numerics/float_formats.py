"""Floating point with a sign bit, and the bare exponents that scale blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from lowbit_sim.numerics.whole import is_whole

#: A value that is a whole number of units has at most this many of them: what a 17-bit signed multiplicand holds.
MAX_UNITS = 65535


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """Binary floating point with a sign bit.

    A code is sign | exponent | mantissa. Exponent field 0 holds zero and, if the format has them, the
    subnormals. With both infinities and NaN the all-ones exponent is reserved, as in IEEE 754; with NaN
    alone only the all-ones code is NaN, as in OCP FP8 E4M3; with infinity alone the all-ones code is the
    infinity; with neither every code is a number.

    Args:
        exponent_bits: 1 to 8.
        mantissa_bits: 0 to 23, without the implicit leading one.
        bias: Exponent bias; a normal number is (1 + m 2^-mantissa_bits) 2^(e - bias).
        has_infinity: Whether +-infinity have codes.
        has_nan: Whether NaN has codes.
        has_subnormals: Whether exponent field 0 holds subnormals; if not, it holds zero alone and the
            codes in between are not used.
        name: A name for messages and reports; formats of other names are equal all the same.

    Raises:
        ValueError: Widths out of range, or values that float32 can't hold (every value of a format is
            a float32 value).
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    has_infinity: bool = True
    has_nan: bool = True
    has_subnormals: bool = True
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not is_whole(self.exponent_bits, 1, 8):
            raise ValueError(
                f"a float format has 1 to 8 exponent bits, got exponent_bits={self.exponent_bits}"
            )
        if not is_whole(self.mantissa_bits, 0, 23):
            raise ValueError(
                f"a float format has 0 to 23 mantissa bits, got mantissa_bits={self.mantissa_bits}"
            )
        if not is_whole(self.bias, -1000, 1000):
            raise ValueError(f"a float format's bias is a whole number, got bias={self.bias}")
        if self.has_infinity and self.has_nan and self.mantissa_bits == 0:
            raise ValueError("with mantissa_bits=0 the all-ones exponent can't hold both infinity and NaN")
        if self.max_code < (1 if self.has_subnormals else 1 << self.mantissa_bits):
            raise ValueError("the format has no positive finite value")
        lowest = self.min_exponent - self.mantissa_bits
        if lowest < -149 or self.max_exponent > 127:
            raise ValueError(
                f"bias={self.bias} puts values outside float32: exponents {lowest} to {self.max_exponent}, "
                "float32 holds -149 to 127"
            )

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number, shared by the subnormals."""
        return 1 - self.bias

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest finite number."""
        return (self.max_code >> self.mantissa_bits) - self.bias

    @property
    def max_code(self) -> int:
        """Code of the largest finite value (positive, so also its magnitude bits)."""
        all_ones = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        if self.has_infinity and self.has_nan:
            return all_ones - (1 << self.mantissa_bits)
        return all_ones - (1 if self.has_infinity or self.has_nan else 0)

    @property
    def infinity_code(self) -> int | None:
        """Code of +infinity, or None."""
        return self.max_code + 1 if self.has_infinity else None

    @property
    def nan_code(self) -> int | None:
        """The code that rounding gives a NaN (the quiet one, sign 0), or None."""
        if not self.has_nan:
            return None
        all_ones = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        if self.has_infinity:
            return self.max_code + 1 + (1 << (self.mantissa_bits - 1))
        return all_ones

    @cached_property
    def max_value(self) -> float:
        """The largest finite value."""
        mantissa = self.max_code & ((1 << self.mantissa_bits) - 1)
        if self.max_code >> self.mantissa_bits == 0:
            return mantissa * 2.0 ** (self.min_exponent - self.mantissa_bits)
        return (1.0 + mantissa * 2.0**-self.mantissa_bits) * 2.0**self.max_exponent

    @property
    def unit(self) -> float | None:
        """The spacing of the subnormals if every finite value is at most 65535 of them, else None."""
        unit = 2.0 ** (self.min_exponent - self.mantissa_bits)
        return unit if self.max_value <= MAX_UNITS * unit else None

    def __str__(self) -> str:
        return self.name or f"float_e{self.exponent_bits}m{self.mantissa_bits}_bias{self.bias}"


@dataclass(frozen=True, kw_only=True)
class ExponentFormat:
    """E8M0, the scale format of OCP Microscaling Formats 1.0 (section 5.4.1): a power of two, without sign or zero.

    value = 2^(code - 127); code 255 is NaN.
    """

    @property
    def name(self) -> str:
        """The catalogue's name."""
        return "e8m0"

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 8

    @property
    def bias(self) -> int:
        """Code of the value 1."""
        return 127

    @property
    def nan_code(self) -> int:
        """Code of NaN."""
        return 255

    @property
    def max_value(self) -> float:
        """The largest value."""
        return 2.0**127

    @property
    def unit(self) -> None:
        """None: the values span too many powers of two to be whole numbers of one unit."""
        return None

    def __str__(self) -> str:
        return self.name
