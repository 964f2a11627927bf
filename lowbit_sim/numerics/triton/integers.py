"""Codes of integer and fixed-point formats on a GPU: the twin of `kernels.quantize_to_integers`.

Bytes: 4 read and 1 or 2 written for an element. Instructions, compiled for an H200 by Triton 3.6: 8 an element for
saturating integers to nearest even, 23 with up to 8 random bits, a sixteenth of a Philox block among them; other
modes, widths and formats take the general path, 40 to 60.

Importing this module imports Triton.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

import triton
import triton.language as tl

from lowbit_sim.numerics.triton.random import tile_draws
from lowbit_sim.numerics.triton.rounding import NEAREST_EVEN, SPECIAL, STOCHASTIC, round_shifted, split
from lowbit_sim.numerics.triton.scales import spread

#: 1.5 2^23: a float32 number below 2^22 in magnitude, added to it, is rounded to an integer, ties to even, which
#: then stands in the low bits of the sum.
ROUNDER = tl.constexpr(12582912.0)
ROUNDER_BITS = tl.constexpr(0x4B400000)

#: Beyond every 16-bit code, with any zero point.
BEYOND = tl.constexpr(1 << 20)


@triton.jit
def _bounded(y, zero_point, random, qmin, qmax, MODE: tl.constexpr, RANDOM_BITS: tl.constexpr):
    """Saturated codes in units of 1, to nearest even or with up to 8 random bits.

    Rounding keeps the order and leaves whole numbers alone, so that the bounds may come first; y then is below 2^18,
    and y 2^8 exact.
    """
    y = tl.maximum(y, (qmin - zero_point).to(tl.float32))
    y = tl.minimum(y, (qmax - zero_point).to(tl.float32))
    if MODE == NEAREST_EVEN:
        return (y + ROUNDER).to(tl.int32, bitcast=True) + (zero_point - ROUNDER_BITS)
    else:
        scaled = y * (1 << RANDOM_BITS)
        # Not tl.floor: the library's takes a subnormal number for zero.
        whole = scaled.to(tl.int32)
        floor = tl.where(whole.to(tl.float32) > scaled, whole - 1, whole)
        return ((floor + random.to(tl.int32)) >> RANDOM_BITS) + zero_point


@triton.jit
def _general(
    y,
    zero_point,
    random,
    fraction_length,
    qmin,
    qmax,
    MODE: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    WRAP: tl.constexpr,
):
    """Codes by `reference.integer_code`, of any mode, width and overflow."""
    negative, field, significand, exponent = split(y)
    shift = -(exponent + fraction_length)
    rounded = round_shifted(
        significand, tl.maximum(shift, 0), negative, random, MODE, RANDOM_BITS, OF_MAGNITUDE=False
    ).to(tl.int32)
    if WRAP:
        # Shifted by 31 or more, a significand leaves nothing in the low 16 bits.
        left = tl.minimum(tl.maximum(-shift, 0), 31).to(tl.uint32)
        magnitude = tl.where(shift < 0, (significand << left).to(tl.int32, bitcast=True), rounded)
        code = tl.where(negative, 0 - magnitude, magnitude) + (zero_point - qmin)
        code = (code & (qmax - qmin)) + qmin
        return tl.where(field == SPECIAL, tl.where(negative, qmin, qmax), code)
    else:
        # A positive exponent is that of a normal number, which then is at least 2^24.
        magnitude = tl.where((shift < 0) | (field == SPECIAL), BEYOND, rounded)
        code = tl.where(negative, 0 - magnitude, magnitude) + zero_point
        return tl.minimum(tl.maximum(code, qmin), qmax)


@triton.jit(
    do_not_specialize=[
        "run",
        "channels",
        "fraction_length",
        "qmin",
        "qmax",
        "seed",
        "operand",
        "step",
        "site",
        "offset",
    ]
)
def quantize_to_integers(
    x,
    inv,
    zero_points,
    codes,
    size,
    run,
    channels,
    fraction_length,
    qmin,
    qmax,
    seed,
    operand,
    step,
    site,
    offset,
    MODE: tl.constexpr,
    WRAP: tl.constexpr,
    BOUNDED: tl.constexpr,
    HAS_ZERO_POINTS: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    ALIGNED: tl.constexpr,
    LAYOUT: tl.constexpr,
    PIECE: tl.constexpr,
    PERIODIC: tl.constexpr,
    TILE: tl.constexpr,
):
    """One tile of codes, integer [size]: float32 x, reciprocal scales and int32 zero points [channels]."""
    start = tl.program_id(0).to(tl.int64) * TILE
    lane = tl.arange(0, TILE)
    inside = start + lane < size
    y = tl.load(x + start + lane, mask=inside, other=0.0)
    y = y * spread(inv, start, size, run, channels, LAYOUT, PIECE, PERIODIC, TILE)
    if HAS_ZERO_POINTS:
        zero_point = spread(zero_points, start, size, run, channels, LAYOUT, PIECE, PERIODIC, TILE)
    else:
        zero_point = qmin * 0
    if MODE == STOCHASTIC:
        random = tile_draws(start, offset, step, site, seed, operand, RANDOM_BITS, ALIGNED, TILE)
    else:
        random = lane.to(tl.uint32)
    if BOUNDED:
        code = _bounded(y, zero_point, random, qmin, qmax, MODE, RANDOM_BITS)
    else:
        code = _general(y, zero_point, random, fraction_length, qmin, qmax, MODE, RANDOM_BITS, WRAP)
    tl.store(codes + start + lane, code.to(codes.dtype.element_ty), mask=inside)
