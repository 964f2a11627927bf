"""The definition of a block's shared exponent: scalars, exact arithmetic.

With emax the exponent of the element format's largest value, the scale is 2^e,
* "floor": e = floor(log2(absmax)) - emax (OCP Microscaling Formats 1.0, section 6.3; with the elements of
  `block_floating_point`, for which emax is 0, also QPyTorch's rule);
* "ceil": the smallest e for which absmax / 2^e is at most the largest value: only e = 127 lets a value saturate;
* "even": "floor" of the absmax rounded to the element's mantissa bits, to nearest even. A carry is all that
  matters: it raises e by one where the absmax would round to the next power of two. (At the tie all mantissa
  bits are ones, so rounding it to even is rounding it up, which is how torchao computes it.)
e is clamped to -127 .. 127, what E8M0 holds.
"""

from __future__ import annotations

import math
from fractions import Fraction

from lowbit_sim.numerics.formats import FixedFormat, FloatFormat, IntFormat
from lowbit_sim.numerics.reference import floor_log2, round_to_integer


def element_exponent(element: IntFormat | FixedFormat | FloatFormat) -> int:
    """emax: the exponent of the largest value."""
    return floor_log2(Fraction(element.max_value))


def element_mantissa_bits(element: IntFormat | FixedFormat | FloatFormat) -> int:
    """Bits behind the leading one of the largest values."""
    return element.mantissa_bits if isinstance(element, FloatFormat) else floor_log2(Fraction(element.qmax))


def shared_exponent(absmax: float, element: IntFormat | FixedFormat | FloatFormat, rule: str) -> int:
    """The exponent of a block's power-of-two scale; 0 (the scale 1) for a block of zeros.

    Args:
        absmax: The largest magnitude in the block, finite.
        element: Format of the elements.
        rule: "floor", "even" or "ceil".

    Raises:
        ValueError: An absmax that is negative or not finite; an unknown rule.
    """
    if not 0 <= absmax < math.inf:
        raise ValueError(f"a block's largest magnitude is finite and not negative, got {absmax}")
    if absmax == 0:
        return 0
    exact = Fraction(absmax)
    match rule:
        case "floor":
            exponent = floor_log2(exact) - element_exponent(element)
        case "even":
            spacing = Fraction(2) ** (floor_log2(exact) - element_mantissa_bits(element))
            rounded = round_to_integer(exact / spacing, "nearest_even") * spacing
            exponent = floor_log2(rounded) - element_exponent(element)
        case "ceil":
            ratio = exact / Fraction(element.max_value)
            exponent = floor_log2(ratio)
            exponent += ratio > Fraction(2) ** exponent
        case _:
            raise ValueError(f"unknown scale rule {rule!r}: known are ceil, even, floor")
    return min(max(exponent, -127), 127)
