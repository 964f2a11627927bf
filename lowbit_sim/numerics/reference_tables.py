"""The definition of the codes and the rounding of formats whose values are found in a table.

Logarithmic, posit, codebook and bare-exponent formats (E8M0): scalars, exact rational arithmetic. A value
that the format has gets its code. Any other lies between two neighbours `low < high`, or beyond an end, which
it becomes (these formats can only saturate, infinities too). Of the neighbours `near` is the one of smaller
magnitude (of a codebook's -v and v the negative one), `far` the other. Then:

* `down`, `up`: the lower, the higher one.
* `toward_zero`: `near`.
* `nearest_*`: on each side of a threshold. The threshold is the midpoint; for posits it is the posit with one
  more bit that lies between them (Posit Standard 2022, section 4.1), which for a number next to zero is zero
  itself: no number but zero becomes zero, while the modes that the standard doesn't have (directed and
  stochastic) may round to zero.
* A number on the threshold: `nearest_away` takes `far`. `nearest_even` takes the even code of a posit (as the
  standard has it) and the even index of a codebook. Powers of the radix have no even digit, so logarithmic
  formats and E8M0 take the larger magnitude, as IEEE 754-2019 section 4.3.1 does for one-digit precision (and
  torch and ml_dtypes for E8M0); between zero and the smallest power it is zero.
* `stochastic`: with r bits, t = |x - near| / |far - near|; `far` if floor(t 2^r) + R >= 2^r.
"""

from __future__ import annotations

import bisect
import functools
import math
from dataclasses import dataclass
from fractions import Fraction

from lowbit_sim.numerics.formats import CodebookFormat, ExponentFormat, LogFormat, PositFormat, TableFormat
from lowbit_sim.numerics.rounding import Rounding, RoundingMode


def table_value(code: int, fmt: TableFormat) -> float:
    """The value of a code.

    Raises:
        ValueError: A code that the format doesn't have.
    """
    count = len(fmt.values) if isinstance(fmt, CodebookFormat) else 1 << fmt.bits
    if not 0 <= code < count:
        raise ValueError(f"{fmt} has codes 0 to {count - 1}, got {code}")
    match fmt:
        case CodebookFormat():
            return fmt.values[code]
        case LogFormat():
            sign = -1.0 if code > fmt.max_code else 1.0
            field = code & fmt.max_code
            return sign * (2.0 ** fmt.exponent_of(field) if field else 0.0)
        case ExponentFormat():
            return math.nan if code == fmt.nan_code else 2.0 ** (code - fmt.bias)
        case PositFormat():
            return posit_value(code, fmt.bits, fmt.exponent_bits)


def posit_value(code: int, bits: int, exponent_bits: int) -> float:
    """The value of a posit's bit pattern, as the Posit Standard (2022), section 3.2, defines it.

    With S the sign bit, a regime of k equal bits R0 (r = -k if R0 is 0, else k - 1), e the exponent bits and f the
    fraction (bits past the end are 0): ((1 - 3 S) + f) 2^((1 - 2 S) (r 2^es + e + S)).
    """
    if code == 0:
        return 0.0
    if code == 1 << (bits - 1):
        return math.nan
    sign, rest = code >> (bits - 1), format(code & ((1 << (bits - 1)) - 1), f"0{bits - 1}b")
    run = len(rest) - len(rest.lstrip(rest[0]))
    regime = run - 1 if rest[0] == "1" else -run
    tail = rest[run + 1 :].ljust(exponent_bits, "0")
    exponent, fraction = int("0" + tail[:exponent_bits], 2), tail[exponent_bits:]
    scale = (1 - 2 * sign) * ((regime << exponent_bits) + exponent + sign)
    # ((1 - 3 S) + f) in units of the fraction's last bit.
    units = ((1 - 3 * sign) << len(fraction)) + int("0" + fraction, 2)
    return math.ldexp(units, scale - len(fraction))


@dataclass(frozen=True)
class Member:
    """A finite value of a format, with its code and whether a tie goes to it under `nearest_even`.

    `next_threshold` is the threshold between it and the next larger value, None for the largest.
    """

    value: Fraction
    code: int
    next_threshold: Fraction | None = None
    takes_tie_with_next: bool = False


@functools.cache
def members(fmt: TableFormat) -> tuple[Member, ...]:
    """The finite values of a format in ascending order; of two zeros the positive one."""
    count = len(fmt.values) if isinstance(fmt, CodebookFormat) else 1 << fmt.bits
    pairs: dict[float, int] = {}
    for code in range(count):
        value = table_value(code, fmt)
        if not math.isnan(value):
            pairs.setdefault(value, code)
    ordered = sorted(pairs.items())
    found = []
    for (low, low_code), (high, high_code) in zip(ordered, ordered[1:], strict=False):
        threshold = _threshold(low, low_code, high, fmt)
        found.append(
            Member(Fraction(low), low_code, threshold, _low_is_even(low, low_code, high, high_code, fmt))
        )
    return (*found, Member(Fraction(ordered[-1][0]), ordered[-1][1]))


def _threshold(low: float, low_code: int, high: float, fmt: TableFormat) -> Fraction:
    if not isinstance(fmt, PositFormat):
        return (Fraction(low) + Fraction(high)) / 2
    if 0.0 in (low, high):
        return Fraction(0)
    # The pattern of the lower one with a 1 appended is the posit of one more bit between them.
    return Fraction(posit_value(2 * low_code + 1, fmt.bits + 1, fmt.exponent_bits))


def _low_is_even(low: float, low_code: int, high: float, high_code: int, fmt: TableFormat) -> bool:
    if isinstance(fmt, LogFormat | ExponentFormat):
        return low == 0 or (high != 0 and abs(low) > abs(high))
    return low_code % 2 == 0 or high_code % 2 == 1


def table_code(x: float, fmt: TableFormat, rounding: Rounding, random: int = 0) -> int:
    """The code of a float32 value; see the module's docstring.

    Args:
        x: A float32 value. NaN needs a format that has NaN.
        fmt: The format.
        rounding: Mode; the overflow is "saturate".
        random: For stochastic rounding, an integer in [0, 2^random_bits).

    Raises:
        ValueError: NaN where the format has none.
    """
    if math.isnan(x):
        if not isinstance(fmt, PositFormat | ExponentFormat):
            raise ValueError(f"{fmt} has no NaN")
        return fmt.nan_code
    every = members(fmt)
    values = _values(fmt)
    if math.isinf(x) or not values[0] <= x <= values[-1]:
        return every[0 if x < 0 or x < values[0] else -1].code
    i = bisect.bisect_right(values, Fraction(x)) - 1
    if values[i] != x and _takes_higher(Fraction(x), every[i], values[i + 1], rounding, random):
        i += 1
    if isinstance(fmt, LogFormat) and values[i] == 0 and math.copysign(1.0, x) < 0:
        return fmt.max_code + 1
    return every[i].code


@functools.cache
def _values(fmt: TableFormat) -> list[Fraction]:
    return [member.value for member in members(fmt)]


def _takes_higher(x: Fraction, low: Member, high: Fraction, rounding: Rounding, random: int) -> bool:
    assert low.next_threshold is not None
    low_is_near = abs(low.value) <= abs(high)
    match rounding.mode:
        case RoundingMode.DOWN:
            return False
        case RoundingMode.UP:
            return True
        case RoundingMode.TOWARD_ZERO:
            return not low_is_near
        case RoundingMode.NEAREST_EVEN:
            return x > low.next_threshold or (x == low.next_threshold and not low.takes_tie_with_next)
        case RoundingMode.NEAREST_AWAY:
            return x > low.next_threshold or (x == low.next_threshold and low_is_near)
        case RoundingMode.STOCHASTIC:
            near, far = (low.value, high) if low_is_near else (high, low.value)
            part = (x - near) / (far - near)
            takes_far = math.floor(part * 2**rounding.random_bits) + random >= 2**rounding.random_bits
            return takes_far == low_is_near
    raise ValueError(f"unknown rounding mode {rounding.mode!r}")
