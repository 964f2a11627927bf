"""Codes of formats whose values stand in a table, on a GPU: the twin of `table_kernel.quantize_to_table`.

The search compares float32 values, which the table's are. What stochastic rounding computes in float64 is exact (see
`table_kernel`), so that no contraction changes it.

Importing this module imports Triton.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

import triton
import triton.language as tl

from lowbit_sim.numerics.triton.random import tile_draws
from lowbit_sim.numerics.triton.rounding import DOWN, NEAREST_EVEN, STOCHASTIC, TOWARD_ZERO, UP
from lowbit_sim.numerics.triton.scales import spread


@triton.jit
def _takes_higher(
    y, low, high, threshold, low_takes_tie, random, MODE: tl.constexpr, RANDOM_BITS: tl.constexpr
):
    """Whether y, above `low` and below `high`, becomes the higher one; see `reference_tables`."""
    low_is_near = tl.abs(low) <= tl.abs(high)
    if MODE == DOWN:
        return y < low
    elif MODE == UP:
        return y > low
    elif MODE == TOWARD_ZERO:
        return low_is_near == 0
    elif MODE == NEAREST_EVEN:
        return (y > threshold) | ((y == threshold) & (low_takes_tie == 0))
    elif MODE == STOCHASTIC:
        # The part of the way after which the random number carries.
        SHARE: tl.constexpr = 1.0 / (1 << RANDOM_BITS)
        missing = (1 << RANDOM_BITS) - random.to(tl.int64)
        way = missing.to(tl.float64) * ((high - low) * SHARE)
        return tl.where(low_is_near, y >= low + way, y > high - way)
    else:
        return (y > threshold) | ((y == threshold) & low_is_near)


@triton.jit(
    do_not_specialize=[
        "run",
        "channels",
        "last",
        "negative_zero",
        "nan",
        "seed",
        "operand",
        "step",
        "site",
        "offset",
    ]
)
def quantize_to_table(
    x,
    inv,
    values,
    thresholds,
    low_takes_tie,
    table_codes,
    codes,
    size,
    run,
    channels,
    last,
    negative_zero,
    nan,
    seed,
    operand,
    step,
    site,
    offset,
    SEARCH_STEPS: tl.constexpr,
    MODE: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    ALIGNED: tl.constexpr,
    LAYOUT: tl.constexpr,
    PIECE: tl.constexpr,
    PERIODIC: tl.constexpr,
    TILE: tl.constexpr,
):
    """One tile of codes.

    The table: float32 values [last + 1], float64 thresholds and int32 low_takes_tie [last], int32 table_codes [last +
    1]; last < 2^SEARCH_STEPS.
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
    # The last value that is at most y; the first if there is none.
    low = lane & 0
    for i in tl.static_range(SEARCH_STEPS):
        further = low + (1 << (SEARCH_STEPS - 1 - i))
        known = further <= last
        low = tl.where(known & (tl.load(values + further, mask=known, other=0.0) <= y), further, low)
    # At or beyond either end there is nothing to choose.
    value = tl.load(values + low)
    between = (low < last) & (y > value)
    high = tl.load(values + low + 1, mask=between, other=0.0)
    higher = _takes_higher(
        y.to(tl.float64),
        value.to(tl.float64),
        high.to(tl.float64),
        tl.load(thresholds + low, mask=between, other=0.0),
        tl.load(low_takes_tie + low, mask=between, other=0),
        random,
        MODE,
        RANDOM_BITS,
    )
    chosen = tl.where(between & higher, low + 1, low)
    code = tl.load(table_codes + chosen)
    negative = (y.to(tl.uint32, bitcast=True) >> 31) != 0
    zero = tl.load(values + chosen) == 0.0
    code = tl.where((negative_zero >= 0) & zero & negative, negative_zero, code)
    code = tl.where(y != y, nan, code)
    tl.store(codes + start + lane, code.to(codes.dtype.element_ty), mask=inside)
