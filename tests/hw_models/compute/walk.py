"""Systolic arrays walked cycle by cycle, with the numbers in them: the slow and obvious twin of the closed forms.

Every processing element is a pair of registers that pass values on at each clock. Nothing here uses a formula; a walk
returns the product that came out and the number of cycles that it took.
"""

from __future__ import annotations

import numpy as np


def _folds(length: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def output_stationary_fold(a: np.ndarray, b: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, int]:
    """One fold of [m, K] x [K, n] with m <= rows and n <= cols: both operands enter with a skew of a cycle a line."""
    K = a.shape[1]
    right, down = {}, {}  # what each element holds: (value, k)
    sums = np.zeros((rows, cols), dtype=np.int64)
    done = np.zeros((rows, cols), dtype=np.int64)
    cycle = 0
    while (done < K).any():
        right, down = (
            {
                (r, c): right.get((r, c - 1))
                if c
                else _enters(a[r] if r < a.shape[0] else None, cycle - r, K)
                for r in range(rows)
                for c in range(cols)
            },
            {
                (r, c): down.get((r - 1, c))
                if r
                else _enters(b[:, c] if c < b.shape[1] else None, cycle - c, K)
                for r in range(rows)
                for c in range(cols)
            },
        )
        for place, left in right.items():
            top = down[place]
            assert (left is None) == (top is None)
            if left is not None and top is not None:
                assert left[1] == top[1]
                sums[place] += left[0] * top[0]
                done[place] += 1
        cycle += 1
    return sums[: a.shape[0], : b.shape[1]], cycle


def _enters(line: np.ndarray | None, k: int, K: int) -> tuple[int, int] | None:
    """The k-th value of a line; an edge fold feeds zeros into the lines that it leaves empty."""
    if not 0 <= k < K:
        return None
    return (0 if line is None else int(line[k])), k


def output_stationary(a: np.ndarray, b: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, int]:
    result, cycles = np.zeros((a.shape[0], b.shape[1]), dtype=np.int64), 0
    for i in _folds(a.shape[0], rows):
        for j in _folds(b.shape[1], cols):
            result[i, j], took = output_stationary_fold(a[i], b[:, j], rows, cols)
            cycles += took
    return result, cycles


def weight_stationary_fold(a: np.ndarray, b: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, int]:
    """One fold of [M, k] x [k, n] with k <= rows and n <= cols, the weights pushed down first."""
    M = a.shape[0]
    weights = np.zeros((rows, cols), dtype=np.int64)
    padded = np.zeros((rows, cols), dtype=np.int64)
    padded[: b.shape[0], : b.shape[1]] = b
    cycle = 0
    for row in reversed(range(rows)):  # the last row's weights enter first
        weights = np.vstack([padded[row : row + 1], weights[:-1]])
        cycle += 1
    start = cycle
    result = np.zeros((M, cols), dtype=np.int64)
    moving, sums, out = {}, {}, 0
    while out < M * cols:
        step = cycle - start
        moving = {
            (r, c): moving.get((r, c - 1)) if c else _input(a, step - r, r)
            for r in range(rows)
            for c in range(cols)
        }
        sums = {
            (r, c): (value[0], (sums[r - 1, c][1] if r else 0) + value[1] * weights[r, c])
            for (r, c), value in moving.items()
            if value is not None
        }
        for c in range(cols):
            if (rows - 1, c) in sums:
                m, total = sums[rows - 1, c]
                result[m, c] = total
                out += 1
        cycle += 1
    return result[:, : b.shape[1]], cycle


def _input(a: np.ndarray, m: int, row: int) -> tuple[int, int] | None:
    """The input that enters a row: its index and value."""
    if not 0 <= m < a.shape[0]:
        return None
    return m, (int(a[m, row]) if row < a.shape[1] else 0)


def weight_stationary(a: np.ndarray, b: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, int]:
    result, cycles = np.zeros((a.shape[0], b.shape[1]), dtype=np.int64), 0
    for k in _folds(a.shape[1], rows):
        for j in _folds(b.shape[1], cols):
            part, took = weight_stationary_fold(a[:, k], b[k, j], rows, cols)
            result[:, j] += part
            cycles += took
    return result, cycles


def double_buffered(a: np.ndarray, b: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, list[int]]:
    """All folds of [M, K] x [K, N] on an array with a second set of weights; (product, first cycle of each fold).

    A fold's first input may enter together with its column's last product of the fold before, and not before all
    weights are in the second set, a row of which enters a cycle from the moment it became free.
    """
    M = a.shape[0]
    todo = [(k, j) for k in _folds(a.shape[1], rows) for j in _folds(b.shape[1], cols)]
    result = np.zeros((M, b.shape[1]), dtype=np.int64)
    busy: dict[tuple[int, int, int], int] = {}  # (cycle, row, column) -> fold
    starts: list[int] = []
    free_at = -rows  # the first fold's weights are in place at cycle 0
    for fold, (k, j) in enumerate(todo):
        loaded = free_at + rows
        start = max(loaded, _last_product(busy, fold - 1, rows) if fold else 0)
        while any((start + t + r, r, 0) in busy for t in range(M) for r in range(rows)):
            start += 1
        for t in range(M):
            for c, column in enumerate(range(j.start, j.stop)):
                for r, depth in enumerate(range(k.start, k.stop)):
                    result[t, column] += a[t, depth] * b[depth, column]
                    assert (start + t + r + c, r, c) not in busy
            for c in range(cols):
                for r in range(rows):
                    busy[start + t + r + c, r, c] = fold
        starts.append(start)
        free_at = start
    return result, starts


def _last_product(busy: dict[tuple[int, int, int], int], fold: int, rows: int) -> int:
    """The cycle of the last product of a fold in the last row of the first column."""
    return max(cycle for (cycle, r, c), f in busy.items() if (f, r, c) == (fold, rows - 1, 0))
