"""Integer and fixed-point codes in float32 lanes: the fast twin of `reference.integer_code`, saturating.

Importing this module imports numba. Each chunk (`lanes.py`) is worked through in three loops: scale and clip, round,
convert. An element moves 4 bytes in and 1 or 2 out, and takes about 10 operations of a 32-bit lane; 20 if it draws.

Why float32 is exact, for y = fp32(x inv), steps = 2^fraction_length >= 1, zero point z, r random bits:

* y steps is a float32 or beyond every code: a power of two of at least 1 loses no bits of any number.
* Clipping to [qmin - z, qmax - z] first changes nothing. Every mode, for a given random number, is a monotone
  function that keeps integers, and both ends are integers, exact as |qmin - z|, |qmax - z| <= 2^17.
* rint, floor, ceil and trunc of a float32 are float32s, and so is y - trunc(y).
* floor(y 2^r) + R, an integer of at most (max(|qmin - z|, |qmax - z|) + 1) 2^r, is exact while that is at most 2^24
  (`fits`): r <= 16 for codes of 8 bits, 8 for 16. Scaling by 2^r and 2^-r is exact; the floor of the quotient is
  floor(y) + [floor(frac(y) 2^r) + R >= 2^r].

What does not fit (wrapping, fixed point coarser than 1, more random bits) is `kernels.quantize_to_integers`'.
"""

from __future__ import annotations

import sys

import numba
import numpy as np
from numba import int32

from lowbit_sim.numerics.formats import FixedFormat, IntFormat
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.lanes import CHUNK, _round_lanes, _round_with_draws, _spread
from lowbit_sim.numerics.philox_kernel import _fill_draws
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding, RoundingMode
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

_STOCHASTIC = MODE_CODES[RoundingMode.STOCHASTIC]

#: Zero points beyond this are nobody's; up to here the clipping bounds are exact.
_MAX_ZERO_POINT = 1 << 16


def fits(fmt: IntFormat | FixedFormat, rounding: Rounding, zero_points: np.ndarray) -> bool:
    """Whether float32 lanes find the codes exactly; see the module's docstring."""
    fraction_length = fmt.fraction_length if isinstance(fmt, FixedFormat) else 0
    if rounding.overflow == "wrap" or not 0 <= fraction_length <= 127:
        return False
    if rounding.random_bits > 16 or sys.byteorder != "little":
        return False
    shift = abs(int(zero_points[0])) if zero_points.size == 1 else int(np.abs(zero_points).max(initial=0))
    largest = max(abs(fmt.qmin), abs(fmt.qmax)) + shift
    return shift <= _MAX_ZERO_POINT and (largest + 1) << rounding.random_bits <= 1 << 24


@cached()
def _scale_and_clip(x, zeros, steps, qmin, qmax, y):
    """y = x y steps, clipped to the codes less the zero points; the number of NaNs."""
    # Counted in 32 bits: a wider count would halve the lanes.
    nans = int32(0)
    for i in range(x.size):
        nans = int32(nans + int32(x[i] != x[i]))
        scaled = x[i] * y[i] * steps
        y[i] = min(max(scaled, qmin - zeros[i]), qmax - zeros[i])
    return nans


@cached()
def _convert(y, zeros, codes):
    for i in range(y.size):
        codes[i] = int32(y[i] + zeros[i])


@cached()
def _quantize_chunk(
    x, inv, zero_points, start, run, steps, qmin, qmax, mode, random_bits, width, address, codes
):
    y, zeros = np.empty(x.size, np.float32), np.empty(x.size, np.float32)
    _spread(inv, start, run, y)
    _spread(zero_points, start, run, zeros)
    nans = _scale_and_clip(x, zeros, steps, qmin, qmax, y)
    if mode == _STOCHASTIC:
        seed, operand, step, site, offset = address
        draws = np.empty(x.size, np.float32)
        _fill_draws(offset + start, width, random_bits, seed, operand, step, site, draws)
        _round_with_draws(y, random_bits, draws)
    else:
        _round_lanes(y, mode)
    _convert(y, zeros, codes)
    return nans


@cached(parallel=True)
def quantize(x, inv, zero_points, run, steps, qmin, qmax, mode, random_bits, width, address, codes):
    """Fill `codes`; the number of NaNs in x, whose codes mean nothing.

    Arrays are float32 but for the codes; a single scale or zero point is that of every element. `address` is the
    stream's (seed, operand, step, site, offset).
    """
    nans = 0
    for chunk in numba.prange((x.size + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        nans += _quantize_chunk(
            x[start : start + CHUNK],
            inv,
            zero_points,
            start,
            run,
            steps,
            qmin,
            qmax,
            mode,
            random_bits,
            width,
            address,
            codes[start : start + CHUNK],
        )
    return nans
