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
_EXPONENT = np.int32(0x7F800000)
_PLACES = np.int32(23)
_NONE = np.int32(1 << 10)
_ZERO, _ONE = np.int32(0), np.int32(1)

#: Turns the order of unsigned numbers into that of signed ones, for which there is a minimum of vectors.
_UNSIGNED = np.int32(-(1 << 31))


@numba.njit(inline="always")
def _log2(n):
    """The exponent field of a power of two times a fraction, from 0 to 2^24."""
    return np.int32(np.float32(n).view(np.int32) >> _PLACES)


@numba.njit
def _fields(piece):
    """The largest magnitude's bits, those of all fractions, and the smallest magnitude's and last place's, less 1.

    Less its lowest bit, a number with a fraction is smaller by its last place, exactly; a power of two is its own
    last place. Zeros become the largest unsigned numbers.
    """
    most = used = _ZERO
    least = lowest = _MAGNITUDE
    for i in range(piece.size):
        magnitude = np.int32(piece[i] & _MAGNITUDE)
        before = np.int32(magnitude - _ONE)
        rest = np.int32(np.int32(magnitude & before) | np.int32(magnitude & _EXPONENT))
        place = np.float32(magnitude.view(np.float32) - rest.view(np.float32)).view(np.int32)
        most = max(most, magnitude)
        used = np.int32(used | magnitude)
        least = min(least, np.int32(before ^ _UNSIGNED))
        lowest = min(lowest, np.int32(np.int32(place - _ONE) ^ _UNSIGNED))
    return most, np.int32(used & _FRACTION), np.int32(least ^ _UNSIGNED), np.int32(lowest ^ _UNSIGNED)


@numba.njit
def _each(piece):
    """The smallest last place and the most bits where some numbers are subnormal."""
    last, widest = _NONE, _ZERO
    for i in range(piece.size):
        magnitude = np.int32(piece[i] & _MAGNITUDE)
        field = np.int32(magnitude >> _PLACES)
        fraction = np.int32(magnitude & _FRACTION)
        significand = np.int32(fraction | _ONE_PLACE) if field > _ZERO else fraction
        low = _log2(np.int32(significand & np.int32(-significand)))
        width = np.int32(np.int32(_log2(significand) - low) + _ONE)
        place = np.int32(max(field, _ONE) + np.int32(low - np.int32(127)))
        last = min(last, place if magnitude > _ZERO else _NONE)
        widest = max(widest, width)
    return last, widest


@numba.njit
def _of_normal(used, least, lowest):
    """The smallest last place and the most bits of normal numbers and zeros, from their `_fields`."""
    low = _log2(np.int32(used & np.int32(-used))) - 127 if used else 23
    if least == -1:
        return _NONE, _ONE
    bits = np.int32((min(least, lowest) if lowest >= 0 else least) + _ONE)
    field = np.int32(bits >> _PLACES)
    return np.int32(field + 23 if field else _log2(bits) - 126), np.int32(24 - low)


@cached(parallel=True)
def extents(bits, out):
    """Into out [tasks, 3]: largest magnitude's bits, smallest exponent of a last place, most significant bits.

    The exponents are those of field 1 and a significand's lowest bit: less by 150 they are powers of two. bits is
    int32 [n], zeros tell nothing.
    """
    for task in numba.prange(out.shape[0]):
        # Of an index that may be negative, for all that the compiler knows, vectors would be gathered.
        piece = bits[task * PIECE : min((task + 1) * PIECE, bits.size)]
        most, used, least, lowest = _fields(piece)
        subnormal = _ZERO <= least < _FRACTION
        last, widest = _each(piece) if subnormal else _of_normal(used, least, lowest)
        out[task, 0] = most
        out[task, 1] = last
        out[task, 2] = widest
