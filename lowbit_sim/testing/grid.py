"""The finite values of a format in ascending order, and where a number lies among them."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from typing import overload

import numpy as np

from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.formats import ElementFormat, FixedFormat, FloatFormat, IntFormat
from lowbit_sim.numerics.reference import decode_value, float_value


class Grid(Sequence[float]):
    """The finite values of an element format, ascending and each once; those of wide float formats are not listed.

    Args:
        fmt: An element format.
    """

    def __init__(self, fmt: ElementFormat) -> None:
        self.format = fmt
        if isinstance(fmt, IntFormat | FixedFormat):
            self._count, self._value = fmt.qmax - fmt.qmin + 1, lambda i: (fmt.qmin + i) * fmt.unit
        elif isinstance(fmt, FloatFormat):
            # Codes between zero and the first normal number hold nothing where there are no subnormals.
            unused = 0 if fmt.has_subnormals else (1 << fmt.mantissa_bits) - 1
            largest = fmt.max_code - unused
            self._count, self._value = 2 * largest + 1, lambda i: _signed(i - largest, unused, fmt)
        else:
            listed = _listed(fmt)
            self._count, self._value = len(listed), listed.__getitem__

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> float: ...

    @overload
    def __getitem__(self, i: slice) -> list[float]: ...

    def __getitem__(self, i: int | slice) -> float | list[float]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._count))]
        if not -self._count <= i < self._count:
            raise IndexError(i)
        return self._value(i % self._count)


def _signed(place: int, unused: int, fmt: FloatFormat) -> float:
    """The value that many places above zero."""
    return math.copysign(float_value(abs(place) + unused, fmt), place) if place else 0.0


def _listed(fmt: ElementFormat) -> list[float]:
    low, high = code_range(fmt)
    values = {decode_value(code, fmt) for code in range(low, high + 1)}
    return sorted({v + 0.0 for v in values if math.isfinite(v)})  # -0.0 + 0.0 is 0.0


@functools.cache
def grid_of(fmt: ElementFormat) -> Grid:
    """The grid of an element format."""
    return Grid(fmt)


def neighbours(grid: Sequence[float], y: float) -> tuple[float, float]:
    """The largest value up to y and the smallest one from y on, for y within the range."""
    i = bisect.bisect_left(grid, y)
    return (grid[i], grid[i]) if grid[i] == y else (grid[i - 1], grid[i])


def float32_steps(x: float, steps: int) -> float:
    """The float32 value that many steps above (or below) a float32 value."""
    value = np.float32(x)
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(math.copysign(math.inf, steps)))
    return float(value)
