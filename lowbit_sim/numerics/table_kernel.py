"""Compiled twin of `reference_tables.py`: a binary search in the format's values.

Importing this module imports numba, so it is imported only where the kernel is about to run.

Why float64 is exact. Thresholds and values are exact by construction (`tables.py`). Stochastic rounding
between the neighbours `near` and `far` asks whether floor(t 2^r) + R >= 2^r with t = (y - near) / (far -
near). The right side is an integer, so that is t 2^r >= k with k = 2^r - R, that is, whether y has reached
near + k (far - near) 2^-r. If both neighbours are multiples of u and below 2^b u, that point is a multiple of
u 2^-r and all that computes it is below 2^(b + 1 + r) of those: exact while b + 1 + r <= 53.
`encode.check_rounding` holds codebooks to that; for the other formats b <= 14 and r <= 32.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import float64, int64, uint64

from lowbit_sim.numerics import table_lanes
from lowbit_sim.numerics.formats import TableFormat
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.kernels import (
    _DOWN,
    _NEAREST_AWAY,
    _NEAREST_EVEN,
    _STOCHASTIC,
    _TOWARD_ZERO,
    _UP,
    ROW_ELEMENTS,
    _address,
    _philox,
)
from lowbit_sim.numerics.random import Stream, draw_width
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding
from lowbit_sim.numerics.tables import table_of
from lowbit_sim.numerics.threads import match_torch_threads


@numba.njit(inline="always")
def _takes_higher(y, low, high, threshold, low_takes_tie, mode, random, random_bits):
    """Whether y, between two neighbours, becomes the higher one; see `reference_tables`."""
    low_is_near = abs(low) <= abs(high)
    if mode == _DOWN:
        return False
    if mode == _UP:
        return True
    if mode == _TOWARD_ZERO:
        return not low_is_near
    if mode == _NEAREST_EVEN:
        return y > threshold or (y == threshold and not low_takes_tie)
    if mode == _NEAREST_AWAY:
        return y > threshold or (y == threshold and low_is_near)
    # k |far - near| 2^-r: the part of the way after which the random number carries.
    k = float64((int64(1) << random_bits) - random)
    way = k * ((high - low) / float64(int64(1) << random_bits))
    return y >= low + way if low_is_near else y > high - way


@cached(parallel=True)
def _search(
    x,
    inv,
    inner,
    values,
    thresholds,
    low_takes_tie,
    table_codes,
    negative_zero,
    nan,
    mode,
    codes,
    random_bits,
    width,
    seed,
    operand,
    step,
    site,
    offset,
):
    per_block = 128 // width
    per_word = 32 // width
    mask = (int64(1) << random_bits) - 1
    last = values.size - 1
    nans = 0
    for row in numba.prange((x.size + inner - 1) // inner):
        channel = row % inv.size
        for i in range(row * inner, min((row + 1) * inner, x.size)):
            y = float64(x[i] * inv[channel])
            if math.isnan(y):
                nans += 1
                codes[i] = nan
                continue
            # The last value that is at most y; 0 if there is none.
            low, high = 0, last
            while low < high:
                middle = (low + high + 1) // 2
                if values[middle] <= y:
                    low = middle
                else:
                    high = middle - 1
            if low < last and y > values[low]:
                random = int64(0)
                if mode == _STOCHASTIC:
                    block = (offset + i) // per_block
                    place = (offset + i) - block * per_block
                    word = _philox(block, step, site, seed, operand)[place // per_word]
                    random = int64(word >> uint64((place % per_word) * width)) & mask
                if _takes_higher(
                    y,
                    values[low],
                    values[low + 1],
                    thresholds[low],
                    low_takes_tie[low],
                    mode,
                    random,
                    random_bits,
                ):
                    low += 1
            code = table_codes[low]
            if negative_zero >= 0 and values[low] == 0 and math.copysign(1.0, y) < 0:
                code = int64(negative_zero)
            codes[i] = code
    return nans


def quantize_to_table(
    x: np.ndarray,
    inv: np.ndarray,
    inner: int,
    fmt: TableFormat,
    rounding: Rounding,
    stream: Stream | None,
    codes: np.ndarray,
) -> int:
    """Fill `codes` with the codes of x * inv; the twin of `reference_tables.table_code`.

    Args:
        x: float32 [n]; where the format has no NaN, the codes of NaNs mean nothing.
        inv: float32 [channels], the reciprocal scales.
        inner: Run length of a channel: element i belongs to channel (i // inner) % channels.
        fmt: The format.
        rounding: Mode and overflow; checked by `encode.check_rounding`.
        stream: Address of the random bits; needed for stochastic rounding only.
        codes: Integer [n], written.

    Returns:
        The number of NaNs in x.
    """
    match_torch_threads(x.size // ROW_ELEMENTS)
    table = table_of(fmt)
    address = _address(stream) if stream is not None else (0, 0, 0, 0, 0)
    width = draw_width(rounding.random_bits)
    if table_lanes.fits(rounding):
        return table_lanes.quantize(x, inv, inner, fmt, rounding, width, address, codes)
    return _search(
        x,
        inv,
        inner,
        table.values,
        table.thresholds,
        table.low_takes_tie,
        table.codes,
        table.negative_zero,
        table.nan,
        MODE_CODES[rounding.mode],
        codes,
        rounding.random_bits,
        width,
        *address,
    )
