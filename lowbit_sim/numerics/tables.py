"""The values of table formats as arrays, for the compiled search."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from lowbit_sim.numerics.formats import ExponentFormat, LogFormat, PositFormat, TableFormat
from lowbit_sim.numerics.reference_tables import members


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A format's n finite values in ascending order.

    Attributes:
        values: float64 [n].
        thresholds: float64 [n - 1]; between values i and i + 1, where nearest rounding turns.
        low_takes_tie: bool [n - 1]; whether a number on the threshold becomes value i under "nearest_even".
        codes: int64 [n].
        negative_zero: Code of a zero with a minus sign, or -1 where zero has one code.
        nan: Code of NaN, or -1.
    """

    values: np.ndarray
    thresholds: np.ndarray
    low_takes_tie: np.ndarray
    codes: np.ndarray
    negative_zero: int
    nan: int


@functools.cache
def table_of(fmt: TableFormat) -> Table:
    """The table of a format; every entry is exact."""
    every = members(fmt)
    thresholds = [m.next_threshold for m in every if m.next_threshold is not None]
    floats = [float(t) for t in thresholds]
    assert floats == thresholds, f"a threshold of {fmt} is not a float64"
    return Table(
        values=np.array([float(m.value) for m in every]),
        thresholds=np.array(floats),
        low_takes_tie=np.array([m.takes_tie_with_next for m in every[:-1]]),
        codes=np.array([m.code for m in every], dtype=np.int64),
        negative_zero=fmt.max_code + 1 if isinstance(fmt, LogFormat) else -1,
        nan=fmt.nan_code if isinstance(fmt, PositFormat | ExponentFormat) else -1,
    )
