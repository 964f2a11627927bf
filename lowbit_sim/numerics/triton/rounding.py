"""`reference.round_to_integer` on the bits of float32 numbers, in 32-bit integers.

A float32 number is +-significand 2^exponent with a significand below 2^24, so that rounding it to a multiple of a
power of two is a shift, and what is shifted out decides. No floating-point operation is used, so none can be
contracted, approximated or flushed to zero.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

import triton
import triton.language as tl

from lowbit_sim.numerics.rounding import MODE_CODES, RoundingMode

NEAREST_EVEN = tl.constexpr(MODE_CODES[RoundingMode.NEAREST_EVEN])
NEAREST_AWAY = tl.constexpr(MODE_CODES[RoundingMode.NEAREST_AWAY])
TOWARD_ZERO = tl.constexpr(MODE_CODES[RoundingMode.TOWARD_ZERO])
DOWN = tl.constexpr(MODE_CODES[RoundingMode.DOWN])
UP = tl.constexpr(MODE_CODES[RoundingMode.UP])
STOCHASTIC = tl.constexpr(MODE_CODES[RoundingMode.STOCHASTIC])

#: The exponent field of infinities and NaN.
SPECIAL = tl.constexpr(255)


@triton.jit
def split(y):
    """Of float32 y: whether the sign bit is set, the exponent field int32, significand uint32, exponent int32."""
    bits = y.to(tl.uint32, bitcast=True)
    field = ((bits >> 23) & 255).to(tl.int32)
    fraction = bits & 0x7FFFFF
    significand = tl.where(field > 0, fraction | 0x800000, fraction)
    return (bits >> 31) != 0, field, significand, tl.maximum(field, 1) - 150


@triton.jit
def round_shifted(
    significand,
    shift,
    negative,
    random,
    MODE: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    OF_MAGNITUDE: tl.constexpr,
):
    """The magnitude, uint32, of +-significand 2^-shift rounded to an integer.

    Args:
        significand: uint32, below 2^24.
        shift: int32, not negative.
        negative: The sign.
        random: uint32 below 2^RANDOM_BITS, for stochastic rounding.
        MODE: Of the signed number.
        RANDOM_BITS: 1 to 32, for stochastic rounding.
        OF_MAGNITUDE: Whether stochastic rounding adds its bits to the magnitude, as floats do, or to the number.
    """
    # Beyond 31 all of a significand is a fraction below one half, as at 31.
    places = tl.minimum(shift, 31).to(tl.uint32)
    whole = significand >> places
    rest = significand - (whole << places)
    inexact = rest != 0
    if MODE == TOWARD_ZERO:
        grows = False
    elif MODE == DOWN:
        grows = inexact & negative
    elif MODE == UP:
        grows = inexact & (negative == 0)
    elif MODE == STOCHASTIC:
        grows = _carries(rest, shift, negative, inexact, random, RANDOM_BITS, OF_MAGNITUDE)
    else:
        twice = rest << 1
        grows = (twice >> places) != 0
        if MODE == NEAREST_EVEN:
            grows = grows & ((twice != ((whole & 0) + 1) << places) | ((whole & 1) != 0))
    return tl.where(grows, whole + 1, whole)


@triton.jit
def _carries(rest, shift, negative, inexact, random, RANDOM_BITS: tl.constexpr, OF_MAGNITUDE: tl.constexpr):
    """Whether the magnitude grows where `random` is added to the first RANDOM_BITS bits of the fraction.

    floor(frac 2^r) + R >= 2^r is floor(frac 2^r) > 2^r - 1 - R, which has no carry out of 32 bits.
    """
    MASK: tl.constexpr = (1 << RANDOM_BITS) - 1
    lost = tl.minimum(tl.maximum(shift - RANDOM_BITS, 0), 31).to(tl.uint32)
    missing = tl.minimum(tl.maximum(RANDOM_BITS - shift, 0), 31).to(tl.uint32)
    kept = rest >> lost
    fraction = kept << missing
    threshold = random ^ MASK
    if OF_MAGNITUDE:
        return fraction > threshold
    # Of a negative number floor(frac 2^r) is 2^r - ceil(2^r frac of the magnitude), and its floor is one further out.
    rounded_up = fraction + (rest != (kept << lost)).to(tl.uint32)
    mirrored = tl.sub(tl.zeros_like(rest), rounded_up, sanitize_overflow=False) & MASK
    return tl.where(negative, inexact & (mirrored <= threshold), fraction > threshold)
