"""The definition of rounding: scalars, exact rational arithmetic, no shortcuts.

Every kernel must return the bits that these functions return. Nothing here is fast.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

from lowbit_sim.numerics.formats import ElementFormat, FixedFormat, FloatFormat, IntFormat
from lowbit_sim.numerics.reference_tables import table_code, table_value
from lowbit_sim.numerics.rounding import Rounding, RoundingMode


def float32(x: float) -> float:
    """The float32 nearest to x (ties to even), as a Python float; beyond the range, infinity."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def round_to_integer(y: Fraction, mode: str, random: int = 0, random_bits: int = 0) -> int:
    """Round an exact number to an integer.

    Args:
        y: The number.
        mode: A `RoundingMode` or its name.
        random: For "stochastic", an integer in [0, 2^random_bits).
        random_bits: For "stochastic", the number of random bits.
    """
    floor = math.floor(y)
    fraction = y - floor
    match mode:
        case RoundingMode.NEAREST_EVEN:
            up = fraction > Fraction(1, 2) or (fraction == Fraction(1, 2) and floor % 2 == 1)
        case RoundingMode.NEAREST_AWAY:
            up = fraction > Fraction(1, 2) or (fraction == Fraction(1, 2) and y > 0)
        case RoundingMode.TOWARD_ZERO:
            up = fraction > 0 and y < 0
        case RoundingMode.DOWN:
            up = False
        case RoundingMode.UP:
            up = fraction > 0
        case RoundingMode.STOCHASTIC:
            up = math.floor(fraction * 2**random_bits) + random >= 2**random_bits
        case _:
            raise ValueError(f"unknown rounding mode {mode!r}")
    return floor + up


def wrap_to(code: int, bits: int, signed: bool) -> int:
    """The low `bits` bits of an integer, read as two's complement or unsigned."""
    low = code & ((1 << bits) - 1)
    return low - (1 << bits) if signed and low >> (bits - 1) else low


def encode_value(
    y: float, fmt: ElementFormat, rounding: Rounding, random: int = 0, zero_point: int = 0
) -> int:
    """The code of a float32 value in any element format: `integer_code`, `float_code` or `table_code`."""
    if isinstance(fmt, IntFormat | FixedFormat):
        return integer_code(y, fmt, rounding, random, zero_point)
    if isinstance(fmt, FloatFormat):
        return float_code(y, fmt, rounding, random)
    return table_code(y, fmt, rounding, random)


def decode_value(code: int, fmt: ElementFormat) -> float:
    """The value of a code of any element format.

    Raises:
        ValueError: A code that the format doesn't have.
    """
    if isinstance(fmt, IntFormat | FixedFormat):
        if not fmt.qmin <= code <= fmt.qmax:
            raise ValueError(f"{fmt} has codes {fmt.qmin} to {fmt.qmax}, got {code}")
        return code * fmt.unit
    return float_value(code, fmt) if isinstance(fmt, FloatFormat) else table_value(code, fmt)


def integer_code(
    y: float, fmt: IntFormat | FixedFormat, rounding: Rounding, random: int = 0, zero_point: int = 0
) -> int:
    """The code of a scaled value: round in units of the format, add the zero point, then saturate or wrap.

    Args:
        y: A float32 value that is not NaN; an infinity saturates, whatever the overflow rule.
        fmt: The format.
        rounding: Mode and overflow; "infinity" is not a rule for integers.
        random: For stochastic rounding, an integer in [0, 2^random_bits).
        zero_point: Added after rounding.
    """
    if math.isinf(y):
        return fmt.qmax if y > 0 else fmt.qmin
    code = (
        round_to_integer(Fraction(y) / Fraction(fmt.unit), rounding.mode, random, rounding.random_bits)
        + zero_point
    )
    if rounding.overflow == "wrap":
        return wrap_to(code, fmt.bits, fmt.signed)
    return min(max(code, fmt.qmin), fmt.qmax)


def overflow_code(fmt: FloatFormat, rounding: Rounding) -> int:
    """Magnitude bits of an infinity.

    Raises:
        ValueError: A format with neither infinity nor NaN whose overflow is "infinity".
    """
    if rounding.overflow == "saturate":
        return fmt.max_code
    code = fmt.infinity_code if fmt.has_infinity else fmt.nan_code
    if code is None:
        raise ValueError(f"{fmt} has neither infinity nor NaN, so its overflow can only saturate")
    return code


def magnitude_mode(mode: str, negative: bool) -> str:
    """The mode as it acts on a magnitude: "down" and "up" swap for negative numbers."""
    if negative and mode == RoundingMode.DOWN:
        return RoundingMode.UP
    if negative and mode == RoundingMode.UP:
        return RoundingMode.DOWN
    return mode


def float_code(x: float | Fraction, fmt: FloatFormat, rounding: Rounding, random: int = 0) -> int:
    """The code of a value in a float format.

    The magnitude is rounded to an integer multiple of the spacing at its exponent. Overflow is decided
    after rounding as if the exponent had no limit, and as IEEE 754-2019 section 7.4 has it: "infinity"
    gives infinity (or NaN) except in a mode that rounds this sign's magnitude down, which gives the largest
    finite value, as "saturate" does. Stochastic rounding adds its random bits to the magnitude, as a
    datapath with a sign bit does.

    Args:
        x: A float32 value or an exact number. NaN needs a format that has NaN.
        fmt: The format.
        rounding: Mode and overflow; "wrap" is not a rule for floats.
        random: For stochastic rounding, an integer in [0, 2^random_bits).

    Raises:
        ValueError: NaN where the format has none.
    """
    if math.isnan(x):
        if fmt.nan_code is None:
            raise ValueError(f"{fmt} has no NaN")
        return fmt.nan_code
    negative = math.copysign(1.0, x) < 0
    sign = int(negative) << (fmt.bits - 1)
    if math.isinf(x):
        return sign | overflow_code(fmt, rounding)
    magnitude = abs(Fraction(x))
    exponent = max(floor_log2(magnitude), fmt.min_exponent) if magnitude else fmt.min_exponent
    mode = magnitude_mode(rounding.mode, negative)
    mantissa = _rounded_mantissa(magnitude, exponent, fmt, mode, random, rounding.random_bits)
    # With m mantissa bits, mantissa 2^m is the first normal number of this exponent; a carry out of the
    # mantissa moves into the exponent field by itself. Below 2^m (subnormal) the field is 0.
    code = ((exponent - fmt.min_exponent) << fmt.mantissa_bits) + mantissa
    if code <= fmt.max_code or mode in (RoundingMode.DOWN, RoundingMode.TOWARD_ZERO):
        return sign | min(code, fmt.max_code)
    return sign | overflow_code(fmt, rounding)


def floor_log2(magnitude: Fraction) -> int:
    """The exponent of the largest power of two that is at most a positive number."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return exponent if magnitude >= Fraction(2) ** exponent else exponent - 1


def _rounded_mantissa(
    magnitude: Fraction, exponent: int, fmt: FloatFormat, mode: str, random: int, random_bits: int
) -> int:
    implicit_one = 1 << fmt.mantissa_bits
    if not fmt.has_subnormals and magnitude < Fraction(2) ** fmt.min_exponent:
        # Only 0 and the smallest normal number are near: they are one spacing apart.
        return implicit_one * round_to_integer(
            magnitude / Fraction(2) ** fmt.min_exponent, mode, random, random_bits
        )
    spacing = Fraction(2) ** (exponent - fmt.mantissa_bits)
    return round_to_integer(magnitude / spacing, mode, random, random_bits)


def float_value(code: int, fmt: FloatFormat) -> float:
    """The value of a code of a float format. Unused codes (see `has_subnormals`) read as zero.

    Raises:
        ValueError: A code outside [0, 2^bits).
    """
    if not 0 <= code < 1 << fmt.bits:
        raise ValueError(f"{fmt} has codes 0 to {(1 << fmt.bits) - 1}, got {code}")
    magnitude = code & ((1 << (fmt.bits - 1)) - 1)
    sign = -1.0 if code >> (fmt.bits - 1) else 1.0
    if magnitude > fmt.max_code:
        return sign * math.inf if magnitude == fmt.infinity_code else math.nan
    field, mantissa = magnitude >> fmt.mantissa_bits, magnitude & ((1 << fmt.mantissa_bits) - 1)
    if field == 0:
        return sign * (
            mantissa * 2.0 ** (fmt.min_exponent - fmt.mantissa_bits) if fmt.has_subnormals else 0.0
        )
    return sign * math.ldexp((1 << fmt.mantissa_bits) + mantissa, field - fmt.bias - fmt.mantissa_bits)
