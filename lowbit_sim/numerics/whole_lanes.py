"""Integer and fixed-point codes of a tensor with one scale and no zero point: `integer_lanes` in a single loop.

Importing this module imports numba. The proofs are those of `integer_lanes`; without scales to spread and zero points
to add nothing has to be kept between loops, so that each element is read once and written once. Rounding to nearest
takes 6 operations of a 32-bit lane an element. Stochastic rounding is done in integers, as

    floor((floor(y 2^r) + R) 2^-r) = (int(floor(y 2^r)) + R) >> r

where the sum is at most 2^24, and takes 9, and the sixteenth part of a Philox block for up to 8 random bits.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import float32, int32

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.lanes import CHUNK, _round_lanes
from lowbit_sim.numerics.philox_kernel import _philox_words
from lowbit_sim.numerics.rounding import MODE_CODES, RoundingMode
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

_STOCHASTIC = MODE_CODES[RoundingMode.STOCHASTIC]
_NEAREST_EVEN = MODE_CODES[RoundingMode.NEAREST_EVEN]


@cached()
def _nearest(x, inv, steps, qmin, qmax, codes):
    """To the nearest, ties to even; the number of NaNs."""
    # Counted in 32 bits: a wider count would halve the lanes.
    nans = int32(0)
    for i in range(x.size):
        nans = int32(nans + int32(x[i] != x[i]))
        codes[i] = int32(np.rint(min(max(x[i] * inv * steps, qmin), qmax)))
    return nans


@cached()
def _in_mode(x, inv, steps, qmin, qmax, mode, codes):
    """In any mode that draws no random bits; the number of NaNs."""
    y, nans = np.empty(x.size, np.float32), int32(0)
    for i in range(x.size):
        nans = int32(nans + int32(x[i] != x[i]))
        y[i] = min(max(x[i] * inv * steps, qmin), qmax)
    _round_lanes(y, mode)
    for i in range(x.size):
        codes[i] = int32(y[i])
    return nans


@cached()
def _with_draws(x, inv, steps, qmin, qmax, random_bits, pieces, codes):
    """With the random bits in the low ends of `pieces`; the number of NaNs."""
    power, mask = float32(1 << random_bits), int32((1 << random_bits) - 1)
    shift, nans = int32(random_bits), int32(0)
    for i in range(x.size):
        nans = int32(nans + int32(x[i] != x[i]))
        y = min(max(x[i] * inv * steps, qmin), qmax)
        drawn = int32(int32(np.floor(y * power)) + int32(int32(pieces[i]) & mask))
        codes[i] = int32(drawn >> shift)
    return nans


@cached()
def _stochastic(x, inv, steps, qmin, qmax, random_bits, width, start, address, codes):
    seed, operand, step, site, offset = address
    per_block = 128 // width
    block = (offset + start) // per_block
    piece = offset + start - block * per_block
    words = _philox_words(block, (piece + x.size + per_block - 1) // per_block, seed, operand, step, site)
    if width == 8:
        pieces = words.view(np.uint8)[piece : piece + x.size]
        return _with_draws(x, inv, steps, qmin, qmax, random_bits, pieces, codes)
    halves = words.view(np.uint16)[piece : piece + x.size]
    return _with_draws(x, inv, steps, qmin, qmax, random_bits, halves, codes)


@cached(parallel=True)
def quantize(x, inv, steps, qmin, qmax, mode, random_bits, width, address, codes):
    """Fill `codes`; the number of NaNs in x, whose codes mean nothing.

    Arrays and numbers are float32 but for the codes. `address` is the stream's (seed, operand, step, site, offset).
    """
    nans = 0
    for chunk in numba.prange((x.size + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        part, out = x[start : start + CHUNK], codes[start : start + CHUNK]
        if mode == _STOCHASTIC:
            nans += _stochastic(part, inv, steps, qmin, qmax, random_bits, width, start, address, out)
        elif mode == _NEAREST_EVEN:
            nans += _nearest(part, inv, steps, qmin, qmax, out)
        else:
            nans += _in_mode(part, inv, steps, qmin, qmax, mode, out)
    return nans
