"""Codes of float formats on a GPU: the twin of `kernels.quantize_to_floats`, in integer operations.

Rounding to nearest even, of formats that leave float32's exponents room, is one float32 addition of a power of two
whose last place is the format's spacing. Instructions for an element of FP8, compiled for an H200 by Triton 3.6: 22
so, 48 with up to 8 random bits, 40 in other modes.

Importing this module imports Triton.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

import triton
import triton.language as tl

from lowbit_sim.numerics.triton.random import tile_draws
from lowbit_sim.numerics.triton.rounding import (
    DOWN,
    SPECIAL,
    STOCHASTIC,
    TOWARD_ZERO,
    UP,
    round_shifted,
    split,
)
from lowbit_sim.numerics.triton.scales import spread

#: Exponent field of a float32 number whose value is its significand: of 2^0, less that of the significand's unit.
BIAS = tl.constexpr(127)


@triton.jit
def _magnitude_code(
    significand,
    exponent,
    negative,
    random,
    MODE: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    MANTISSA_BITS: tl.constexpr,
    MIN_EXPONENT: tl.constexpr,
    SUBNORMALS: tl.constexpr,
):
    """Magnitude bits before overflow, int32, of significand 2^exponent; see `reference.float_code`."""
    if MIN_EXPONENT < -126:
        # float32's subnormals have several exponents there: that of the significand, which float32 holds exactly.
        top = ((significand.to(tl.float32).to(tl.uint32, bitcast=True) >> 23).to(tl.int32) - BIAS) + exponent
    else:
        top = exponent + 23
    at = tl.maximum(top, MIN_EXPONENT)
    shift = at - MANTISSA_BITS - exponent
    if SUBNORMALS:
        return ((at - MIN_EXPONENT) << MANTISSA_BITS) + round_shifted(
            significand, shift, negative, random, MODE, RANDOM_BITS, OF_MAGNITUDE=True
        ).to(tl.int32)
    else:
        # A number whose exponent is too small is between zero and the smallest normal one, which are the choice.
        below = (top < MIN_EXPONENT) | (significand < 0x800000)
        if MIN_EXPONENT < -126:
            below = (top < MIN_EXPONENT) | (significand == 0)
        shift = tl.where(below, MIN_EXPONENT - exponent, shift)
        mantissa = round_shifted(
            significand, shift, negative, random, MODE, RANDOM_BITS, OF_MAGNITUDE=True
        ).to(tl.int32)
        return tl.where(below, mantissa << MANTISSA_BITS, ((at - MIN_EXPONENT) << MANTISSA_BITS) + mantissa)


@triton.jit
def _nearest_code(y, CEILING: tl.constexpr, MANTISSA_BITS: tl.constexpr, MIN_EXPONENT: tl.constexpr):
    """The same to nearest even: the bits of a sum whose last place is the spacing, less those of what was added.

    A magnitude below 2^(e + 1) and 2^(e + 23 - MANTISSA_BITS) have a sum whose last place is 2^(e - MANTISSA_BITS).
    """
    magnitude = tl.minimum(tl.abs(y), CEILING)
    field = tl.maximum(magnitude.to(tl.int32, bitcast=True) >> 23, MIN_EXPONENT + BIAS)
    rounder = (field + (23 - MANTISSA_BITS)) << 23
    mantissa = (magnitude + rounder.to(tl.float32, bitcast=True)).to(tl.int32, bitcast=True) - rounder
    return ((field - (MIN_EXPONENT + BIAS)) << MANTISSA_BITS) + mantissa


@triton.jit(do_not_specialize=["run", "channels", "seed", "operand", "step", "site", "offset"])
def quantize_to_floats(
    x,
    inv,
    codes,
    size,
    run,
    channels,
    seed,
    operand,
    step,
    site,
    offset,
    MANTISSA_BITS: tl.constexpr,
    MIN_EXPONENT: tl.constexpr,
    SUBNORMALS: tl.constexpr,
    MAX_CODE: tl.constexpr,
    OVERFLOW: tl.constexpr,
    NAN_CODE: tl.constexpr,
    SIGN_SHIFT: tl.constexpr,
    CEILING: tl.constexpr,
    MODE: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    ALIGNED: tl.constexpr,
    LAYOUT: tl.constexpr,
    PIECE: tl.constexpr,
    PERIODIC: tl.constexpr,
    TILE: tl.constexpr,
):
    """One tile of codes: integer [size] of float32 x and float32 [channels] of reciprocal scales.

    CEILING is a power of two beyond the format's values that `_nearest_code` can add to, or 0 where it has none.
    """
    start = tl.program_id(0).to(tl.int64) * TILE
    lane = tl.arange(0, TILE)
    inside = start + lane < size
    y = tl.load(x + start + lane, mask=inside, other=0.0)
    y = y * spread(inv, start, size, run, channels, LAYOUT, PIECE, PERIODIC, TILE)
    if MODE == STOCHASTIC:
        random = tile_draws(start, offset, step, site, seed, operand, RANDOM_BITS, ALIGNED, TILE)
    else:
        random = lane.to(tl.uint32)
    negative, field, significand, exponent = split(y)
    if CEILING > 0:
        code = _nearest_code(y, CEILING, MANTISSA_BITS, MIN_EXPONENT)
    else:
        code = _magnitude_code(
            significand,
            exponent,
            negative,
            random,
            MODE,
            RANDOM_BITS,
            MANTISSA_BITS,
            MIN_EXPONENT,
            SUBNORMALS,
        )
    # A mode that rounds this sign's magnitude down ends at the largest finite value.
    beyond = OVERFLOW
    if MODE == TOWARD_ZERO:
        beyond = MAX_CODE
    elif MODE == DOWN:
        beyond = tl.where(negative, OVERFLOW, MAX_CODE)
    elif MODE == UP:
        beyond = tl.where(negative, MAX_CODE, OVERFLOW)
    code = tl.where(code > MAX_CODE, beyond, code)
    code = tl.where(field == SPECIAL, OVERFLOW, code)
    signed = code.to(tl.uint32) | (negative.to(tl.uint32) << SIGN_SHIFT)
    signed = tl.where(y != y, tl.full((), NAN_CODE, tl.uint32), signed)
    tl.store(codes + start + lane, signed.to(codes.dtype.element_ty), mask=inside)
