"""The counts of `counts.py` in one pass over an operand and its codes, compiled. Importing this imports numba."""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba

prepare_numba()

#: Elements that make another thread worth starting.
_ELEMENTS_PER_THREAD = 1 << 16


@cached(parallel=True)
def _count(x, codes, inv, low, high, zeros, mask, run):
    clipped, vanished = 0, 0
    for row in numba.prange((x.size + run - 1) // run):
        region = row % inv.size
        factor, least, most, zero = inv[region], low[region], high[region], zeros[region]
        # Slices from 0 and counts of 32 bits are what the compiler turns into vector instructions.
        part, part_codes = x[row * run : (row + 1) * run], codes[row * run : (row + 1) * run]
        beyond_row, vanished_row = np.int32(0), np.int32(0)
        for i in range(part.size):
            value = part[i]
            y = value * factor
            beyond = (y >= most) | (y <= least)
            became_zero = (np.int32(part_codes[i]) & mask) == zero
            beyond_row += np.int32(beyond)
            vanished_row += np.int32(became_zero & (value != np.float32(0)) & (not beyond))
        clipped += beyond_row
        vanished += vanished_row
    return clipped, vanished


def count(
    x: np.ndarray,
    codes: np.ndarray,
    inv: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    zeros: np.ndarray,
    mask: int,
    run: int,
) -> tuple[int, int]:
    """How many elements are clipped, and how many others that are not zero became zero.

    Args:
        x: float32 [n].
        codes: Integers [n].
        inv: float32 [regions], the reciprocal scales; runs of elements take them in turn, again and again.
        low: float32 [regions]: x inv at or below this is clipped.
        high: float32 [regions]: x inv at or above this is.
        zeros: int32 [regions]: a code that is this under the mask is zero.
        mask: Bits of a code that tell whether it is zero.
        run: Elements of a run, 1 to 2^31 - 1.
    """
    match_torch_threads(x.size // _ELEMENTS_PER_THREAD)
    clipped, vanished = _count(x, codes, inv, low, high, zeros, np.int32(mask), run)
    return int(clipped), int(vanished)
