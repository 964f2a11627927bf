"""The loop of `triton_gpu`: every integer MAC unit but those with a tree of adders. Importing this imports Triton.

A program holds BLOCK_M x BLOCK_N accumulators in registers and walks k in ascending order; a step multiplies a vector
of a's column with one of b's row. The operands come packed along k: an int32 word holds four 8-bit codes (two 16-bit
ones, one 32-bit one), the first in its low bits, so that one pair of loads, out of the caches, feeds
PER_WORD BLOCK_M BLOCK_N multiply-accumulates.

A saturating step is a multiply-add, a minimum and a maximum, and two instructions more where overflows are counted.
On an H200 those after the first share the 64 integer lanes of each of 132 multiprocessors: at 1.75 GHz that allows
64 x 132 x 1.75e9 / 2 = 7.4e12 multiply-accumulates a second uncounted, half as many counted. Compiled for it by
Triton 3.6, the loop has 3.5 and 6.5 instructions for each, loads, barriers and unpacking included.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false

import torch
import triton
import triton.language as tl

#: What an addition does beyond the accumulator's range: nothing is beyond it, wrap, clip.
EXACT, WRAP, CLIP = 0, 1, 2

#: Rounding of the bits that a chunk's sum loses; none are lost with `KEEP`.
KEEP, DOWN, UP, TOWARD_ZERO, NEAREST_EVEN, NEAREST_AWAY = 0, 1, 2, 3, 4, 5


@triton.jit
def _fit(total, low, high, mask, RULE: tl.constexpr):
    """A sum as the accumulator keeps it."""
    if RULE == 2:
        return tl.minimum(tl.maximum(total, low), high)
    elif RULE == 1:
        return ((total - low) & mask) + low
    else:
        return total


@triton.jit
def _truncate(sums, bits, TRUNCATION: tl.constexpr):
    """Divide by 2^bits and round; see `numerics.reference.round_to_integer`."""
    if TRUNCATION == 0:
        return sums
    value = sums.to(tl.int64)
    floor = value >> bits
    fraction = value - (floor << bits)
    half = tl.full((), 1, tl.int64) << (bits - 1)
    up = fraction != fraction
    if TRUNCATION == 2:
        up = fraction != 0
    elif TRUNCATION == 3:
        up = (fraction != 0) & (value < 0)
    elif TRUNCATION == 4:
        up = (fraction > half) | ((fraction == half) & ((floor & 1) == 1))
    elif TRUNCATION == 5:
        up = (fraction > half) | ((fraction == half) & (value > 0))
    return (floor + up.to(tl.int64)).to(sums.dtype)


#: Numbers for which no variant of the kernel is compiled: those that every GEMM has of its own.
_RUNTIME = (
    "rows",
    "columns",
    "reduction",
    "chunk",
    "chunk_words",
    "table_side",
    "truncated_bits",
    "inner_low",
    "inner_high",
    "inner_mask",
    "outer_low",
    "outer_high",
    "outer_mask",
)


@triton.jit(do_not_specialize=_RUNTIME)
def multiply_accumulate(
    a,
    b,
    table,
    out,
    overflow_count,
    rows,
    columns,
    padded_rows,
    padded_columns,
    reduction,
    chunk,
    chunk_words,
    table_side,
    truncated_bits,
    inner_low,
    inner_high,
    inner_mask,
    outer_low,
    outer_high,
    outer_mask,
    LANE: tl.constexpr,
    PER_WORD: tl.constexpr,
    ADDITION: tl.constexpr,
    AT_CHUNK: tl.constexpr,
    OUTER: tl.constexpr,
    TRUNCATION: tl.constexpr,
    HAS_TABLE: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """a [M, K] times b [K, N] from packed operands.

    a and b are int32 words [chunks, chunk_words, padded_rows] and [chunks, chunk_words, padded_columns], table int32
    products [table_side, table_side] by bit pattern (unused without HAS_TABLE), out the results [rows, columns] in
    units of 2^truncated_bits, of type LANE as the accumulators; the overflows are added to overflow_count, an int64.
    PER_WORD is 1 with a table, as padding would have products; ADDITION, AT_CHUNK and OUTER are EXACT, WRAP or CLIP
    of an inner addition, of a chunk's sum and of an outer addition.
    """
    # One axis of programs: the others hold 65535 at most.
    across = padded_columns // BLOCK_N
    m = (tl.program_id(0) // across) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) % across) * BLOCK_N + tl.arange(0, BLOCK_N)
    width: tl.constexpr = 32 // PER_WORD
    inner_low, inner_high, inner_mask = inner_low.to(LANE), inner_high.to(LANE), inner_mask.to(LANE)
    outer_low, outer_high, outer_mask = outer_low.to(LANE), outer_high.to(LANE), outer_mask.to(LANE)
    left, right = a + m, b + n
    outer = tl.zeros((BLOCK_M, BLOCK_N), LANE)
    overflows = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    start = 0
    while start < reduction:
        inner = tl.zeros((BLOCK_M, BLOCK_N), LANE)
        words = chunk_words
        if HAS_TABLE:
            words = tl.minimum(chunk, reduction - start)
        step = 0
        while step < words:
            left_word, right_word = tl.load(left), tl.load(right)
            left += padded_rows
            right += padded_columns
            step += 1
            for place in tl.static_range(PER_WORD):
                x = (left_word << (32 - width - place * width)) >> (32 - width)
                y = (right_word << (32 - width - place * width)) >> (32 - width)
                if HAS_TABLE:
                    row, column = x & (table_side - 1), y & (table_side - 1)
                    product = tl.load(table + row[:, None] * table_side + column[None, :]).to(LANE)
                else:
                    product = x[:, None].to(LANE) * y[None, :].to(LANE)
                total = inner + product
                inner = _fit(total, inner_low, inner_high, inner_mask, ADDITION)
                if COUNT and ADDITION != 0:
                    overflows += (inner != total).to(tl.int32)
        start += chunk
        kept = _fit(inner, inner_low, inner_high, inner_mask, AT_CHUNK)
        if COUNT and AT_CHUNK != 0:
            overflows += (kept != inner).to(tl.int32)
        total = outer + _truncate(kept, truncated_bits, TRUNCATION)
        outer = _fit(total, outer_low, outer_high, outer_mask, OUTER)
        if COUNT:
            overflows += (outer != total).to(tl.int32)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    tl.store(out + m[:, None].to(tl.int64) * columns + n[None, :], outer, mask=inside)
    if COUNT:
        tl.atomic_add(overflow_count, tl.sum(tl.where(inside, overflows, 0).to(tl.int64)))


def lane(dtype):
    """Triton's type of accumulators of a torch dtype."""
    return {torch.int32: tl.int32, torch.int64: tl.int64}[dtype]
