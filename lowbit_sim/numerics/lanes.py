"""Loops that the compiler turns into vector instructions of 32-bit lanes. Importing this module imports numba.

A tensor is worked through in chunks that stay in the caches next to the core, each by several simple loops; chunks
are the unit of parallel work. Whatever a loop holds in 64 bits halves its lanes, and numba makes 64-bit integers of
32-bit ones wherever it adds, so results are cut back to 32 bits at once.
"""

from __future__ import annotations

import numpy as np
from numba import float32

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.rounding import MODE_CODES, RoundingMode

_NEAREST_EVEN = MODE_CODES[RoundingMode.NEAREST_EVEN]
_NEAREST_AWAY = MODE_CODES[RoundingMode.NEAREST_AWAY]
_TOWARD_ZERO = MODE_CODES[RoundingMode.TOWARD_ZERO]
_DOWN = MODE_CODES[RoundingMode.DOWN]
_UP = MODE_CODES[RoundingMode.UP]

#: Elements of a chunk: three float32 buffers of as many are 48 KiB.
CHUNK = 1 << 12


@cached()
def _spread(values, start, run, out):
    """out[k] = values[((start + k) // run) % values.size]."""
    if values.size == 1:
        out[:] = values[0]
        return
    if run == 1:
        place, filled = start % values.size, 0
        while filled < out.size:
            stop = min(out.size, filled + values.size - place)
            out[filled:stop] = values[place : place + stop - filled]
            place, filled = 0, stop
        return
    place = (start // run) % values.size
    filled, stop = 0, run - start % run
    while filled < out.size:
        stop = min(stop, out.size)
        value = values[place]
        while filled + 16 <= stop:
            # A length that the compiler knows: whole vectors, and no loop for the rest.
            for k in range(16):
                out[filled + k] = value
            filled += 16
        for k in range(filled, stop):
            out[k] = value
        filled, stop = stop, stop + run
        place = place + 1 if place + 1 < values.size else 0


@cached()
def _round_lanes(y, mode):
    """Round float32 y in place, exactly; all modes but the stochastic one."""
    if mode == _NEAREST_EVEN:
        for i in range(y.size):
            y[i] = np.rint(y[i])
    elif mode == _NEAREST_AWAY:
        for i in range(y.size):
            whole = np.trunc(y[i])
            away = np.copysign(float32(1), y[i]) if abs(y[i] - whole) >= float32(0.5) else float32(0)
            y[i] = whole + away
    elif mode == _TOWARD_ZERO:
        for i in range(y.size):
            y[i] = np.trunc(y[i])
    elif mode == _DOWN:
        for i in range(y.size):
            y[i] = np.floor(y[i])
    elif mode == _UP:
        for i in range(y.size):
            y[i] = np.ceil(y[i])


@cached()
def _round_with_draws(y, random_bits, draws):
    """Round y in place: floor((floor(y 2^r) + R) 2^-r), exactly while |y| 2^r + R is at most 2^24."""
    power = float32(1 << random_bits)
    fraction = float32(1) / power
    for i in range(y.size):
        y[i] = np.floor((np.floor(y[i] * power) + draws[i]) * fraction)
