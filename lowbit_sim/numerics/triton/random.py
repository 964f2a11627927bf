"""`random.draw` for the elements of a tile: the same counters, keys and pieces, each block computed once.

Importing this module imports Triton.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

import triton
import triton.language as tl

from lowbit_sim.numerics.random import _MULTIPLIER_0, _MULTIPLIER_1, _WEYL_0, _WEYL_1

M0, M1 = tl.constexpr(_MULTIPLIER_0), tl.constexpr(_MULTIPLIER_1)
W0, W1 = tl.constexpr(_WEYL_0), tl.constexpr(_WEYL_1)


@triton.jit
def philox(block, step, site, seed, operand):
    """The four words of int64 blocks, as `random.philox4x32` has them; step, site, seed and operand are uint32."""
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    c2, c3 = step, site
    k0, k1 = seed, operand
    for _ in tl.static_range(10):
        n0 = tl.umulhi(tl.full((), M1, tl.uint32), c2) ^ c1 ^ k0
        n2 = tl.umulhi(tl.full((), M0, tl.uint32), c0) ^ c3 ^ k1
        c1 = tl.mul(c2, M1, sanitize_overflow=False)
        c3 = tl.mul(c0, M0, sanitize_overflow=False)
        c0 = n0
        c2 = n2
        k0 = tl.add(k0, W0, sanitize_overflow=False)
        k1 = tl.add(k1, W1, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def tile_draws(
    start, offset, step, site, seed, operand, BITS: tl.constexpr, ALIGNED: tl.constexpr, TILE: tl.constexpr
):
    """uint32 [TILE] below 2^BITS for the elements from `start` on.

    Where the stream's offset is a whole number of blocks (ALIGNED), a block is computed once for all of its elements;
    elsewhere, which only an odd slice of a tensor makes, once for each of them.
    """
    WIDTH: tl.constexpr = 8 if BITS <= 8 else 16 if BITS <= 16 else 32
    PER_BLOCK: tl.constexpr = 128 // WIDTH
    PER_WORD: tl.constexpr = 32 // WIDTH
    MASK: tl.constexpr = (1 << BITS) - 1
    step, site = step.to(tl.uint32, bitcast=True), site.to(tl.uint32, bitcast=True)
    seed, operand = seed.to(tl.uint32, bitcast=True), operand.to(tl.uint32, bitcast=True)
    first = offset.to(tl.int64) + start
    if ALIGNED:
        w0, w1, w2, w3 = philox(
            first // PER_BLOCK + tl.arange(0, TILE // PER_BLOCK), step, site, seed, operand
        )
        # The words in the order of their elements: w0 w1 w2 w3 of the first block, then of the next.
        words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (TILE // PER_WORD,))
        shifts = (tl.arange(0, PER_WORD) * WIDTH).to(tl.uint32)
        return tl.reshape((words[:, None] >> shifts[None, :]) & MASK, (TILE,))
    else:
        element = first + tl.arange(0, TILE)
        block = element // PER_BLOCK
        place = (element - block * PER_BLOCK).to(tl.int32)
        w0, w1, w2, w3 = philox(block, step, site, seed, operand)
        word = place // PER_WORD
        chosen = tl.where(word == 0, w0, tl.where(word == 1, w1, tl.where(word == 2, w2, w3)))
        return (chosen >> ((place % PER_WORD) * WIDTH).to(tl.uint32)) & MASK
