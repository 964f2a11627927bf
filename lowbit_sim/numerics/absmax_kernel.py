"""Largest magnitudes, with infinities and NaNs told apart, in one pass over a tensor. Importing this imports numba.

A magnitude is a float32's bits without the sign, read as an integer: integers order magnitudes as floats do, with
infinity above every number and NaN above infinity. So one integer maximum, which the compiler turns into vector
instructions as it would no float one (whose NaNs do not order), gives the maximum and says whether there was a NaN.
The pass reads 4 bytes an element and writes next to nothing.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import int32

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba

prepare_numba()

#: Bits of the magnitude of an infinity; NaNs are above.
INFINITY_BITS = 0x7F800000

#: Elements that one thread takes at a time, where there are so many.
PIECE = 1 << 13

_MAGNITUDE = np.int32(0x7FFFFFFF)


@cached()
def _largest(bits):
    largest = int32(0)
    for i in range(bits.size):
        largest = max(largest, int32(bits[i] & _MAGNITUDE))
    return largest


@cached()
def _halve(numbers, halves):
    """The larger of each two neighbours."""
    for i in range(halves.size):
        halves[i] = max(int32(numbers[2 * i] & _MAGNITUDE), int32(numbers[2 * i + 1] & _MAGNITUDE))


@cached()
def _of_whole_pieces(bits, size, largest):
    """`_of_pieces` where none is short: neighbours in pairs as often as the size is even, all pieces side by side."""
    numbers, other, count = bits, np.empty(bits.size // 2, np.int32), bits.size
    spare = np.empty(bits.size // 4 + 1, np.int32)
    while size % 2 == 0:
        count, size = count // 2, size // 2
        _halve(numbers[: 2 * count], other[:count])
        numbers, other, spare = other, spare, other
    for k in range(largest.size):
        found = int32(0)
        for i in range(k * size, (k + 1) * size):
            found = max(found, int32(numbers[i] & _MAGNITUDE))
        largest[k] = found


@cached()
def _of_pieces(bits, size, largest):
    """`largest[k]`: of elements k size to (k + 1) size; the last piece may be shorter."""
    if size < 256 and size % 2 == 0 and bits.size == size * largest.size:
        _of_whole_pieces(bits, size, largest)
        return
    for k in range(largest.size):
        largest[k] = _largest(bits[k * size : min((k + 1) * size, bits.size)])


@cached()
def _of_columns(bits, largest):
    width = largest.size
    largest[:] = 0
    for start in range(0, bits.size, width):
        row = bits[start : start + width]
        for i in range(width):
            largest[i] = max(largest[i], int32(row[i] & _MAGNITUDE))


@cached(parallel=True)
def _maxima(bits, length, size, pieces, group, columns, largest):
    for g in numba.prange((bits.size + group * length - 1) // (group * length)):
        part = bits[g * group * length : (g + 1) * group * length]
        if columns:
            _of_columns(part, largest[g * length : (g + 1) * length])
        elif pieces == 1:
            _of_pieces(part, length, largest[g * group : (g + 1) * group])
        else:
            out = largest[g * group * pieces : (g + 1) * group * pieces]
            for row in range(out.size // pieces):
                _of_pieces(
                    part[row * length : (row + 1) * length], size, out[row * pieces : (row + 1) * pieces]
                )


def row_maxima(bits: np.ndarray, length: int, size: int) -> np.ndarray:
    """The largest magnitude of each piece of each row.

    Args:
        bits: int32 [n], float32 numbers' bits; n is a multiple of `length` unless length == size.
        length: Elements of a row.
        size: Elements of a piece, at most `length`; the last piece of a row may be shorter.

    Returns:
        int32 [rows, pieces]: bits of magnitudes.
    """
    pieces = -(-length // size)
    largest = np.empty((-(-bits.size // length), pieces), np.int32)
    match_torch_threads(bits.size // PIECE)
    _maxima(bits, length, size, pieces, max(1, PIECE // length), False, largest.reshape(-1))
    return largest


def column_maxima(bits: np.ndarray, width: int) -> np.ndarray:
    """The largest magnitude of each column of int32 [rows * width]: int32 [width], bits of magnitudes."""
    group = max(32, PIECE // width)  # each group writes a row of its own
    largest = np.empty((-(-bits.size // (group * width)), width), np.int32)
    match_torch_threads(bits.size // PIECE)
    _maxima(bits, width, width, 1, group, True, largest.reshape(-1))
    return largest.max(0)
