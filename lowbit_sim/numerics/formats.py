"""Number formats: finite sets of values and their codes, as data.

A format is one instance of a dataclass with its free parameters; all else is derived. How a value is
rounded into a format is `rounding.py`, the definition of that rounding `reference.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lowbit_sim.numerics.whole import is_whole


@dataclass(frozen=True, kw_only=True)
class IntFormat:
    """Two's complement (or unsigned) integers.

    Args:
        bits: Width, 2 to 16.
        signed: Two's complement if true, else 0 .. 2^bits - 1.
        symmetric: Leave out the most negative code, so that the range is -qmax .. qmax, as is usual for
            operands of training GEMMs. Only for signed formats.

    Raises:
        ValueError: A width outside 2 to 16, or a symmetric unsigned format.
    """

    bits: int
    signed: bool = True
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not is_whole(self.bits, 2, 16):
            raise ValueError(f"an integer format has 2 to 16 bits, got bits={self.bits}")
        if self.symmetric and not self.signed:
            raise ValueError("an unsigned format can't be symmetric: pass symmetric=False")

    @property
    def qmin(self) -> int:
        """The smallest code."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def qmax(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def name(self) -> str:
        """The catalogue's name: int8 (symmetric), int8_full, uint8."""
        if not self.signed:
            return f"uint{self.bits}"
        return f"int{self.bits}" if self.symmetric else f"int{self.bits}_full"

    @property
    def max_value(self) -> float:
        """The largest value."""
        return float(self.qmax)

    def __str__(self) -> str:
        return self.name


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
        name: A name for messages and reports.

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
    name: str = ""

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

    def __str__(self) -> str:
        return self.name or f"float_e{self.exponent_bits}m{self.mantissa_bits}_bias{self.bias}"


Format = IntFormat | FloatFormat
