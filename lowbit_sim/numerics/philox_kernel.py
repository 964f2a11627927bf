"""Compiled twin of `random.py`: Philox 4x32-10 block by block, and a tensor's draws as whole arrays.

Importing this module imports numba. A block is ten rounds of two 32 x 32 -> 64 bit multiplications; blocks are
independent, so the compiler runs eight of them side by side (AVX-512 multiplies eight lanes so), and one 8-bit draw
costs about half an instruction. A draw is a piece of a block in the order of its bits, which is the order of a
little-endian array's bytes: there is one array of words, read 8 or 16 bits at a time.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import float32, int32, uint32, uint64

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.random import (
    _MULTIPLIER_0,
    _MULTIPLIER_1,
    _WEYL_0,
    _WEYL_1,
    Stream,
)

_M0, _M1 = np.uint64(_MULTIPLIER_0), np.uint64(_MULTIPLIER_1)
_W0, _W1 = np.uint64(_WEYL_0), np.uint64(_WEYL_1)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


@numba.njit(inline="always")
def _philox(block, step, site, seed, operand):
    """The four words of a block, as uint64 values below 2^32."""
    c0 = uint64(block) & _LOW
    c1 = uint64(block) >> _SHIFT
    c2 = uint64(step)
    c3 = uint64(site)
    k0 = uint64(seed)
    k1 = uint64(operand)
    for _ in range(10):
        p0 = c0 * _M0
        p1 = c2 * _M1
        c0 = (p1 >> _SHIFT) ^ c1 ^ k0
        c1 = p1 & _LOW
        c2 = (p0 >> _SHIFT) ^ c3 ^ k1
        c3 = p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@cached()
def _philox_words(first, count, seed, operand, step, site):
    """Blocks `first` to `first + count - 1`: uint32 [4 count]."""
    words = np.empty(4 * count, np.uint32)
    for i in range(count):
        word_0, word_1, word_2, word_3 = _philox(first + i, step, site, seed, operand)
        words[4 * i] = uint32(word_0)
        words[4 * i + 1] = uint32(word_1)
        words[4 * i + 2] = uint32(word_2)
        words[4 * i + 3] = uint32(word_3)
    return words


@cached()
def _fill_draws(first, width, random_bits, seed, operand, step, site, draws):
    """Fill float32 `draws` with the random integers of elements `first`, `first + 1`, ...; at most 16 bits each."""
    per_block = 128 // width
    block = first // per_block
    piece = first - block * per_block
    count = (piece + draws.size + per_block - 1) // per_block
    words = _philox_words(block, count, seed, operand, step, site)
    # 32-bit numbers throughout: wider ones would halve the lanes.
    mask = int32((1 << random_bits) - 1)
    if width == 8:
        pieces = words.view(np.uint8)[piece : piece + draws.size]
        for i in range(pieces.size):
            draws[i] = float32(int32(int32(pieces[i]) & mask))
    else:
        halves = words.view(np.uint16)[piece : piece + draws.size]
        for i in range(halves.size):
            draws[i] = float32(int32(int32(halves[i]) & mask))


def philox_blocks(stream: Stream, first: int, count: int) -> np.ndarray:
    """Blocks `first` to `first + count - 1` of a stream: uint32 [count, 4]."""
    words = _philox_words(first, count, stream.seed, stream.operand, stream.step, stream.site)
    return words.reshape(count, 4)
