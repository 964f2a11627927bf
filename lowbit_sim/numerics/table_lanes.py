"""Codes of table formats by comparing whole chunks with the format's values: the fast twin of `table_kernel.py`.

Importing this module imports numba. The deterministic modes are monotone, so between two neighbouring values there is
a first float32 that becomes the higher one; the place of y in the table is the number of these that are at most y. Up
to `_FEW` are counted one by one; more are searched by halving, all elements of a chunk in step. A stochastic mode
finds the value below y in the same way and then asks whether y has reached near + k (far - near) 2^-r, k = 2^r - R,
which is exact in float64 (see `table_kernel.py`).
"""

from __future__ import annotations

import functools
import sys

import numba
import numpy as np
from numba import float32, float64, int32

from lowbit_sim.numerics.formats import TableFormat
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.lanes import CHUNK, _spread
from lowbit_sim.numerics.philox_kernel import _fill_draws
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.numerics.tables import table_of
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: Values up to which comparing with each is faster than halving.
_FEW = 32


def fits(rounding: Rounding) -> bool:
    """Whether the random numbers are of a width that the chunks' loops read."""
    return rounding.random_bits <= 16 and sys.byteorder == "little"


@functools.cache
def _boundaries(fmt: TableFormat, mode: str) -> np.ndarray:
    """float32 [values - 1]: the first number that is rounded beyond each value; the next value in modes that draw."""
    table = table_of(fmt)
    low, high, turn = table.values[:-1], table.values[1:], table.thresholds
    low_is_near = np.abs(low) <= np.abs(high)
    match mode:
        case RoundingMode.NEAREST_EVEN:
            found = np.where(table.low_takes_tie, _above(turn), _from(turn))
        case RoundingMode.NEAREST_AWAY:
            found = np.where(low_is_near, _from(turn), _above(turn))
        case RoundingMode.UP:
            found = _above(low)
        case RoundingMode.TOWARD_ZERO:
            found = np.where(low_is_near, _from(high), _above(low))
        case _:
            found = _from(high)
    # Values stay themselves where a threshold is one: no number but zero becomes a posit's zero.
    return np.minimum(np.maximum(found, _above(low)), _from(high))


def _from(values: np.ndarray) -> np.ndarray:
    """The smallest float32s that are at least these float64s."""
    nearest = values.astype(np.float32)
    return np.where(nearest < values, np.nextafter(nearest, np.float32(np.inf)), nearest).astype(np.float32)


def _above(values: np.ndarray) -> np.ndarray:
    """The smallest float32s above these float64s."""
    least = _from(values)
    return np.where(least == values, np.nextafter(least, np.float32(np.inf)), least).astype(np.float32)


@functools.cache
def _steps(fmt: TableFormat, random_bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each value: the near neighbour, (far - near) 2^-r, whether it is itself the near one; NaN for the last."""
    values = table_of(fmt).values
    low, high = values[:-1], values[1:]
    low_is_near = np.abs(low) <= np.abs(high)
    near = np.append(np.where(low_is_near, low, high), np.nan)
    step = np.append(np.where(low_is_near, high - low, low - high) * 2.0**-random_bits, np.nan)
    return near, step, np.append(low_is_near, False)


@functools.cache
def _padded(fmt: TableFormat, mode: str) -> np.ndarray:
    """The boundaries; where there are many, with NaNs that no number reaches, one less than a power of two."""
    found = _boundaries(fmt, mode)
    if found.size <= _FEW:
        return found
    size = (1 << found.size.bit_length()) - 1
    return np.concatenate([found, np.full(size - found.size, np.nan, np.float32)])


@functools.cache
def _codes(fmt: TableFormat) -> tuple[np.ndarray, int]:
    """The codes of the values, int32, and the place of zero where it has a code for each sign, else -1."""
    table = table_of(fmt)
    zero = int(np.flatnonzero(table.values == 0)[0]) if table.negative_zero >= 0 else -1
    return table.codes.astype(np.int32), zero


@cached()
def _places(y, boundaries, places):
    """places[i] = how many boundaries are at most y[i]."""
    places[:] = 0
    if boundaries.size <= _FEW:
        for boundary in boundaries:
            for i in range(y.size):
                places[i] = int32(places[i] + int32(boundary <= y[i]))
        return
    step = (boundaries.size + 1) // 2
    while step:
        for i in range(y.size):
            place = places[i]
            places[i] = int32(place + (int32(step) if boundaries[place + step - 1] <= y[i] else int32(0)))
        step //= 2


@cached()
def _step_up(y, near, step, low_is_near, random_bits, draws, places):
    """One place more where the random number carries."""
    power = float64(1 << random_bits)
    for i in range(y.size):
        place, value = places[i], float64(y[i])
        point = near[place] + (power - float64(draws[i])) * step[place]
        higher = (value > point) | ((value == point) & low_is_near[place])
        places[i] = int32(place + int32(higher))


@cached()
def _assemble(y, places, table_codes, zero, negative_zero, nan_code, codes):
    nans = int32(0)
    for i in range(y.size):
        nans = int32(nans + int32(y[i] != y[i]))
        code = table_codes[places[i]]
        negative = np.float32(y[i]).view(np.int32) < 0
        code = negative_zero if (places[i] == zero) & negative else code
        codes[i] = nan_code if y[i] != y[i] else code
    return nans


@cached()
def _quantize_chunk(x, inv, start, run, boundaries, steps, table_codes, special, draw, address, codes):
    y, places = np.empty(x.size, np.float32), np.empty(x.size, np.int32)
    _spread(inv, start, run, y)
    for i in range(x.size):
        y[i] = float32(x[i] * y[i])
    _places(y, boundaries, places)
    random_bits, width = draw
    if random_bits:
        seed, operand, step, site, offset = address
        draws = np.empty(x.size, np.float32)
        _fill_draws(offset + start, width, random_bits, seed, operand, step, site, draws)
        near, distance, low_is_near = steps
        _step_up(y, near, distance, low_is_near, random_bits, draws, places)
    zero, negative_zero, nan_code = special
    return _assemble(y, places, table_codes, int32(zero), int32(negative_zero), int32(nan_code), codes)


@cached(parallel=True)
def _quantize(x, inv, run, boundaries, steps, table_codes, special, draw, address, codes):
    nans = 0
    for chunk in numba.prange((x.size + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        part, out = x[start : start + CHUNK], codes[start : start + CHUNK]
        nans += _quantize_chunk(
            part, inv, start, run, boundaries, steps, table_codes, special, draw, address, out
        )
    return nans


def quantize(
    x: np.ndarray,
    inv: np.ndarray,
    run: int,
    fmt: TableFormat,
    rounding: Rounding,
    width: int,
    address: tuple[int, int, int, int, int],
    codes: np.ndarray,
) -> int:
    """Fill `codes`; the number of NaNs in x.

    Args:
        x: float32 [n].
        inv: float32 [channels]; element i belongs to channel (i // run) % channels.
        run: Run length of a channel.
        fmt: The format.
        rounding: Mode and overflow; `fits` holds.
        width: Bits of a draw.
        address: The stream's seed, operand, step, site and offset.
        codes: Integer [n], written.
    """
    table, (table_codes, zero) = table_of(fmt), _codes(fmt)
    nans = _quantize(
        x,
        inv,
        run,
        _padded(fmt, rounding.mode),
        _steps(fmt, rounding.random_bits),
        table_codes,
        (zero, table.negative_zero, table.nan),
        (rounding.random_bits, width),
        address,
        codes,
    )
    return int(nans)
