"""Norms of the rows of an integer matrix, chunk by chunk, compiled. Importing this module imports numba.

Both kernels read the matrix once, in the order in which it lies in memory, and need no transposed copy; integer sums
are exact in any order. A task reads one piece of the length of a block of rows: whole chunks, or a part of the only
one. Squares of int8 codes are summed in int32 where a chunk's fit it.
"""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba

prepare_numba()

#: Rows of one task, along memory and across it.
_ROWS, _STRIDED_ROWS = 16, 512

#: Elements of a row that a task reads, about: enough for its sums to be worth handing over.
_PIECE = 1 << 12

#: The longest sum of squares of int8 codes that stays below 2^31.
_LONGEST_INT32 = (1 << 17) - 1

#: Elements that make another thread worth starting.
_ELEMENTS_PER_THREAD = 1 << 16


@cached(parallel=True)
def _contiguous_rows(x, piece, chunk, block, zero, squares, sums, largest):
    """Norms of each piece of each row: x [rows, length], results [pieces, rows]; `zero` is of the sums' type."""
    rows, length = x.shape
    blocks = (rows + block - 1) // block
    for task in numba.prange(squares.shape[0] * blocks):
        part, first = task // blocks, task % blocks * block
        end = min(part * piece + piece, length)
        for i in range(first, min(first + block, rows)):
            for start in range(part * piece, end, chunk):
                square, total, top = zero, zero, zero
                row = x[i, start : min(start + chunk, end)]
                for k in range(row.size):
                    value = type(zero)(abs(type(zero)(row[k])))
                    square += type(zero)(value * value)
                    total += value
                    top = max(top, value)
                squares[part, i] = max(squares[part, i], square)
                sums[part, i] = max(sums[part, i], total)
                largest[part, i] = max(largest[part, i], top)


@cached(parallel=True)
def _strided_rows(columns, piece, chunk, block, zero, squares, sums, largest):
    """The same of the transpose of `columns` [length, rows]: one step along all rows of a block at a time."""
    length, rows = columns.shape
    blocks = (rows + block - 1) // block
    for task in numba.prange(squares.shape[0] * blocks):
        part, first = task // blocks, task % blocks * block
        end, last = min(part * piece + piece, length), min(first + block, rows)
        square = np.full(last - first, zero)
        total = np.full(last - first, zero)
        top = np.full(last - first, zero)
        for start in range(part * piece, end, chunk):
            square[:] = zero
            total[:] = zero
            for k in range(start, min(start + chunk, end)):
                row = columns[k, first:last]
                for j in range(last - first):
                    value = type(zero)(abs(type(zero)(row[j])))
                    square[j] += type(zero)(value * value)
                    total[j] += value
                    top[j] = max(top[j], value)
            for j in range(last - first):
                squares[part, first + j] = max(squares[part, first + j], square[j])
                sums[part, first + j] = max(sums[part, first + j], total[j])
        largest[part, first:last] = top


def chunk_norms(x: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of squares, sum of magnitudes and largest magnitude of each row, each the largest over its chunks.

    Args:
        x: int8 or int32 [rows, length], magnitudes at most 65535, length below 2^31.
        chunk: Elements of a chunk, at least 1.

    Returns:
        Three int64 arrays [rows].
    """
    rows, length = x.shape
    if not x.size:
        return tuple(np.zeros(rows, dtype=np.int64) for _ in range(3))  # pyright: ignore[reportReturnType]
    chunk = min(chunk, length)
    # Of a single chunk any pieces will do.
    piece = _PIECE if chunk == length else -(-_PIECE // chunk) * chunk
    found = np.zeros((3, -(-length // piece), rows), dtype=np.int64)
    narrow = x.dtype == np.int8 and min(chunk, piece) <= _LONGEST_INT32
    zero = np.int32(0) if narrow else np.int64(0)
    match_torch_threads(x.size // _ELEMENTS_PER_THREAD)
    if x.T.flags.c_contiguous and not x.flags.c_contiguous:
        _strided_rows(x.T, piece, chunk, _STRIDED_ROWS, zero, *found)
    else:
        _contiguous_rows(np.ascontiguousarray(x), piece, chunk, _ROWS, zero, *found)
    squares, sums = found[:2].sum(axis=1) if chunk == length else found[:2].max(axis=1)
    return squares, sums, found[2].max(axis=0)
