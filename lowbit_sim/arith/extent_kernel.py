"""Where the bits of float32 numbers lie, in one pass over them. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: Elements of a task.
PIECE = 1 << 15

_ONE_PLACE = np.int32(1 << 23)
_FRACTION = np.int32((1 << 23) - 1)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_PLACES = np.int32(23)
_NONE = np.int32(1 << 10)
_ZERO = np.int32(0)


@numba.njit(inline="always")
def _log2(n):
    """The exponent field of a power of two times a fraction, from 0 to 2^24."""
    return np.int32(np.float32(n).view(np.int32) >> _PLACES)


@cached(parallel=True)
def extents(bits, out):
    """Into out [tasks, 3]: largest magnitude's bits, smallest exponent of a last place, most significant bits.

    The exponents are those of field 1 and a significand's lowest bit: less by 150 they are powers of two. bits is
    int32 [n], zeros tell nothing.
    """
    for task in numba.prange(out.shape[0]):
        most = widest = _ZERO
        last = _NONE
        for i in range(task * PIECE, min((task + 1) * PIECE, bits.size)):
            magnitude = np.int32(bits[i] & _MAGNITUDE)
            field = np.int32(magnitude >> _PLACES)
            fraction = np.int32(magnitude & _FRACTION)
            significand = np.int32(fraction | _ONE_PLACE) if field > _ZERO else fraction
            low = _log2(np.int32(significand & np.int32(-significand)))
            width = np.int32(np.int32(_log2(significand) - low) + np.int32(1))
            place = np.int32(max(field, np.int32(1)) + np.int32(low - np.int32(127)))
            most = max(most, magnitude)
            last = min(last, place if magnitude > _ZERO else _NONE)
            widest = max(widest, width)
        out[task, 0] = most
        out[task, 1] = last
        out[task, 2] = widest
