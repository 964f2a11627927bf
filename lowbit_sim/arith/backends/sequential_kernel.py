"""The compiled loop of `numba_cpu`. Importing this module imports numba."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np

from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()


@numba.njit(inline="always")
def _fit(total, limits, saturate):
    """A sum as the accumulator keeps it; limits are (low, high, mask of its bits)."""
    low, high, mask = limits
    if saturate:
        return min(max(total, low), high)
    return ((total - low) & mask) + low


@functools.cache
def sequential(saturate: bool) -> Callable[..., None]:
    """The kernel of an overflow rule.

    It closes over a plain value only: numba's cache on disk finds an entry by the closure's contents, and a
    compiled function among them would differ in each process.
    """

    @numba.njit(cache=True, parallel=True)
    def kernel(a, b, chunk, inner_limits, outer_limits, block, out, counts):
        rows, reduction = a.shape
        columns = b.shape[1]
        blocks = (columns + block - 1) // block
        # Every value below is cast to the lane's type, or numba would widen it to int64 and halve the lanes.
        lane = inner_limits.dtype.type
        inner_range = (inner_limits[0], inner_limits[1], inner_limits[2])
        outer_range = (outer_limits[0], outer_limits[1], outer_limits[2])
        for task in numba.prange(rows * blocks):
            i = task // blocks
            first = (task % blocks) * block
            width = min(block, columns - first)
            inner = np.zeros(width, dtype=inner_limits.dtype)
            outer = np.zeros(width, dtype=inner_limits.dtype)
            overflows = np.zeros(width, dtype=inner_limits.dtype)
            for start in range(0, reduction, chunk):
                inner[:] = 0
                for k in range(start, min(start + chunk, reduction)):
                    multiplier = lane(a[i, k])
                    if multiplier == 0:
                        continue
                    row = b[k, first : first + width]
                    for j in range(width):
                        total = lane(inner[j] + multiplier * lane(row[j]))
                        kept = lane(_fit(total, inner_range, saturate))
                        overflows[j] += lane(kept != total)
                        inner[j] = kept
                for j in range(width):
                    total = lane(outer[j] + inner[j])
                    kept = lane(_fit(total, outer_range, saturate))
                    overflows[j] += lane(kept != total)
                    outer[j] = kept
            out[i, first : first + width] = outer
            counts[task] = overflows.sum()

    return kernel
