"""Norms of the rows of an integer matrix, chunk by chunk, compiled. Importing this module imports numba.

Both kernels read the matrix once, in the order in which it lies in memory; integer sums are exact in any order.
"""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba

prepare_numba()

#: Rows that one task of the strided kernel holds.
_BLOCK = 512

#: Elements that make another thread worth starting.
_ELEMENTS_PER_THREAD = 1 << 16


@numba.njit(cache=True, parallel=True)
def _contiguous_rows(x, chunk, squares, sums, largest):
    rows, length = x.shape
    for row in numba.prange(rows):
        for start in range(0, length, chunk):
            square, total, top = np.int64(0), np.int64(0), np.int64(0)
            for k in range(start, min(start + chunk, length)):
                value = abs(np.int64(x[row, k]))
                square += value * value
                total += value
                top = max(top, value)
            squares[row] = max(squares[row], square)
            sums[row] = max(sums[row], total)
            largest[row] = max(largest[row], top)


@numba.njit(cache=True, parallel=True)
def _strided_rows(columns, chunk, block, squares, sums, largest):
    """The rows of the transpose of `columns` [length, rows]: one step along all rows of a block at a time."""
    length, rows = columns.shape
    for task in numba.prange((rows + block - 1) // block):
        first = task * block
        last = min(first + block, rows)
        square = np.zeros(last - first, dtype=np.int64)
        total = np.zeros(last - first, dtype=np.int64)
        for start in range(0, length, chunk):
            square[:] = 0
            total[:] = 0
            for k in range(start, min(start + chunk, length)):
                row = columns[k, first:last]
                for j in range(last - first):
                    value = abs(np.int64(row[j]))
                    square[j] += value * value
                    total[j] += value
                    largest[first + j] = max(largest[first + j], value)
            for j in range(last - first):
                squares[first + j] = max(squares[first + j], square[j])
                sums[first + j] = max(sums[first + j], total[j])


def chunk_norms(x: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of squares, sum of magnitudes and largest magnitude of each row, each the largest over its chunks.

    Args:
        x: int8 or int32 [rows, length], magnitudes at most 65535, length below 2^31.
        chunk: Elements of a chunk, at least 1.

    Returns:
        Three int64 arrays [rows].
    """
    squares, sums, largest = (np.zeros(x.shape[0], dtype=np.int64) for _ in range(3))
    if x.size:
        match_torch_threads(x.size // _ELEMENTS_PER_THREAD)
        if x.T.flags.c_contiguous and not x.flags.c_contiguous:
            _strided_rows(x.T, chunk, _BLOCK, squares, sums, largest)
        else:
            _contiguous_rows(np.ascontiguousarray(x), chunk, squares, sums, largest)
    return squares, sums, largest
