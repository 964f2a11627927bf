"""The compiled loop for every MAC unit that `tile_kernel` does not cover. Importing this module imports numba.

A row of accumulators runs along the longer side of the result. What differs between MAC units is decided
once for a row, outside the loops over its elements; so one kernel serves all, at the price of a second pass over the
row wherever a product must be rounded, looked up or handed to a tree of adders.

A tree over n products is kept as the binary digits of n: level l holds the sum of 2^l neighbours that waits for its
right-hand neighbour. Adding a product carries like adding one to the count; at the end of the chunk what is left is
added from the right. These are the additions of the tree whose levels pair neighbours and carry an odd one up.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import int64

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.rounding import MODE_CODES, RoundingMode
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: What an addition does beyond the accumulator's range: nothing is beyond it, wrap, clip.
EXACT, WRAP, CLIP = 0, 1, 2

_NEAREST_EVEN = MODE_CODES[RoundingMode.NEAREST_EVEN]
_NEAREST_AWAY = MODE_CODES[RoundingMode.NEAREST_AWAY]
_TOWARD_ZERO = MODE_CODES[RoundingMode.TOWARD_ZERO]
_UP = MODE_CODES[RoundingMode.UP]


@numba.njit
def _add(accumulators, terms, limits, rule):
    """Add a row to a row; how many of the sums overflowed."""
    lane = accumulators.dtype.type
    low, high, mask = limits[0], limits[1], limits[2]
    overflows = 0
    if rule == EXACT:
        for j in range(accumulators.size):
            accumulators[j] += terms[j]
    elif rule == WRAP:
        for j in range(accumulators.size):
            total = lane(accumulators[j] + terms[j])
            kept = lane(lane(lane(total - low) & mask) + low)
            overflows += kept != total
            accumulators[j] = kept
    else:
        for j in range(accumulators.size):
            total = lane(accumulators[j] + terms[j])
            kept = lane(min(max(total, low), high))
            overflows += kept != total
            accumulators[j] = kept
    return overflows


@numba.njit
def _multiply(code, row, products, terms):
    """The products of one code with a row of codes; `products` is the table's row of this code, or empty."""
    lane = terms.dtype.type
    if products.size:
        mask = products.size - 1
        for j in range(terms.size):
            terms[j] = lane(products[row[j] & mask])
    else:
        multiplier = lane(code)
        for j in range(terms.size):
            terms[j] = lane(multiplier * lane(row[j]))


@numba.njit
def _multiply_add(code, row, accumulators):
    """Add exact products where no sum is beyond the lane."""
    lane = accumulators.dtype.type
    multiplier = lane(code)
    for j in range(accumulators.size):
        accumulators[j] = lane(accumulators[j] + lane(multiplier * lane(row[j])))


@numba.njit
def _table_row(table, code):
    """The products of one code; none where products are exact."""
    return table[code & (table.shape[0] - 1)] if table.size else table.reshape(-1)


@numba.njit
def _sequential_chunk(codes, rows, table, limits, rule, terms, inner):
    """Sum a chunk's products in order of k; `rows` holds one row of codes for each of the chunk's codes."""
    inner[:] = 0
    overflows = 0
    for k in range(codes.size):
        if table.size:
            _multiply(codes[k], rows[k], _table_row(table, codes[k]), terms)
            overflows += _add(inner, terms, limits, rule)
        elif rule == EXACT:
            _multiply_add(codes[k], rows[k], inner)
        elif codes[k] != 0:
            _multiply(codes[k], rows[k], table.reshape(-1), terms)
            overflows += _add(inner, terms, limits, rule)
    return overflows


@numba.njit
def _tree_chunk(codes, rows, table, limits, rule, zeros, levels, inner):
    """Sum a chunk's products in a tree of adders."""
    overflows = 0
    for k in range(codes.size):
        _multiply(codes[k], rows[k], _table_row(table, codes[k]), inner)
        overflows += _add(inner, zeros, limits, rule)
        level = 0
        while (k >> level) & 1:
            overflows += _add(inner, levels[level], limits, rule)
            level += 1
        levels[level, :] = inner
    inner[:] = 0
    for level in range(levels.shape[0]):
        if (codes.size >> level) & 1:
            overflows += _add(inner, levels[level], limits, rule)
    return overflows


@numba.njit
def _truncate(sums, bits, mode):
    """Divide by 2^bits and round; see `numerics.reference.round_to_integer`."""
    if bits == 0:
        return
    lane = sums.dtype.type
    for j in range(sums.size):
        value = int64(sums[j])
        floor = value >> bits
        fraction = value - (floor << bits)
        half = int64(1) << (bits - 1)
        up = False
        if mode == _NEAREST_EVEN:
            up = fraction > half or (fraction == half and floor & 1 == 1)
        elif mode == _NEAREST_AWAY:
            up = fraction > half or (fraction == half and value > 0)
        elif mode == _TOWARD_ZERO:
            up = fraction != 0 and value < 0
        elif mode == _UP:
            up = fraction != 0
        sums[j] = lane(floor + int64(up))


@cached(parallel=True)
def general(
    a,
    b,
    table,
    chunk,
    depth,
    rules,
    truncated_bits,
    truncation,
    inner_limits,
    outer_limits,
    block,
    out,
    counts,
):
    """a [M, K] times b [K, N].

    Args:
        a: int32 codes [M, K].
        b: int32 codes [K, N].
        table: int32 products [2^bits, 2^bits] of codes of a and of b by bit pattern; [0, 0] for exact products.
        chunk: Products of a chunk, at least 1.
        depth: Levels of the tree of adders, of at least 2^depth - 1 products; 0 for sequential sums.
        rules: int64 [3]: EXACT, WRAP or CLIP of an inner addition, of a chunk's sum, of an outer addition.
        truncated_bits: Bits that a chunk's sum loses.
        truncation: Code of the rounding mode.
        inner_limits: (low, high, mask) of the inner accumulator, in the lane's type.
        outer_limits: The same of the outer accumulator.
        block: Accumulators of one task.
        out: Results [M, N], in the lane's type; in units of 2^truncated_bits.
        counts: int64 [M * ceil(N / block)], overflows of each task.
    """
    rows, reduction = a.shape
    columns = b.shape[1]
    blocks = (columns + block - 1) // block
    for task in numba.prange(rows * blocks):
        i = task // blocks
        first = (task % blocks) * block
        width = min(block, columns - first)
        inner = np.zeros(width, dtype=inner_limits.dtype)
        outer = np.zeros(width, dtype=inner_limits.dtype)
        terms = np.zeros(width, dtype=inner_limits.dtype)
        zeros = np.zeros(width, dtype=inner_limits.dtype)
        levels = np.zeros((depth, width), dtype=inner_limits.dtype)
        overflows = 0
        for start in range(0, reduction, chunk):
            stop = min(start + chunk, reduction)
            codes, part = a[i, start:stop], b[start:stop, first : first + width]
            if depth:
                overflows += _tree_chunk(codes, part, table, inner_limits, rules[0], zeros, levels, inner)
            else:
                overflows += _sequential_chunk(codes, part, table, inner_limits, rules[0], terms, inner)
            overflows += _add(inner, zeros, inner_limits, rules[1])
            _truncate(inner, truncated_bits, truncation)
            overflows += _add(outer, inner, outer_limits, rules[2])
        out[i, first : first + width] = outer
        counts[task] = overflows
