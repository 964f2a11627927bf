"""Compute cycles of one GEMM on a systolic array, in closed form.

A dataflow lays two of a GEMM's three dimensions over the rows and columns of the array; the third is time.
Where a dimension is longer than the array, the GEMM runs in folds, each of which costs the full array:

| dataflow                   | rows | columns | time T | cycles per fold P |
|----------------------------|------|---------|--------|-------------------|
| "os" (output stationary)   | M    | N       | K      | R + C + K - 2     |
| "ws" (weight stationary)   | K    | N       | M      | 2R + C + M - 2    |
| "is" (input stationary)    | K    | M       | N      | 2R + C + N - 2    |

cycles = row folds x column folds x P. One fold by hand, R = C = 4 and M = N = K = 4:

* os: the corner processing element (3, 3) sees its first pair of operands after 3 + 3 cycles of skew and
  then takes K = 4 cycles: 6 + 4 = 10.
* ws: R = 4 cycles push the weights down the columns. Then T = M = 4 rows of the input enter; the last one
  enters at cycle 3 and needs 3 + 3 hops to the corner: 4 + 3 + 6 + 1 = 14. "is" is the same with the operands
  exchanged.

These are the schedules of SCALE-Sim 3.0.0 (Samajdar et al., "A systematic methodology for characterizing
scalability of DNN accelerators using SCALE-Sim", ISPASS 2020), which prints the index of the last cycle,
one less. Loading is not hidden behind compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

Dataflow = Literal["ws", "os", "is"]

#: The dimensions that lie over the rows, over the columns and in time.
_LAYOUT = {"os": "MNK", "ws": "KNM", "is": "KMN"}


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient rounded up, exact for integers of any size."""
    return -(-numerator // denominator)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a GEMM runs on an array.

    Attributes:
        row_folds, column_folds: Folds of the dimension over the rows and of that over the columns; 0 for a
            GEMM of size zero.
        cycles_per_fold: Cycles of one fold.
        mapping_efficiency: Share of the processing elements that hold work, mean over the folds, 0 to 1.
    """

    row_folds: int
    column_folds: int
    cycles_per_fold: int
    mapping_efficiency: float

    @property
    def folds(self) -> int:
        """Folds in all."""
        return self.row_folds * self.column_folds

    def cycles(self, *, count: int = 1, arrays: int = 1) -> int:
        """Cycles of `count` equal GEMMs whose folds are dealt out to a number of arrays."""
        return ceil_div(count * self.folds, arrays) * self.cycles_per_fold


def systolic_schedule(M: int, N: int, K: int, *, rows: int, cols: int, dataflow: str) -> Schedule:
    """The schedule of a GEMM [M, K] x [K, N].

    Args:
        M: Rows of the left operand, 0 to 2^62.
        N: Columns of the right operand, 0 to 2^62.
        K: Length of the reduction, 0 to 2^62.
        rows: Rows of the array, 1 to 2^62.
        cols: Columns of the array, 1 to 2^62.
        dataflow: "ws", "os" or "is".

    Raises:
        ValueError: A size that is not a whole number in its range, or an unknown dataflow.
    """
    if dataflow not in _LAYOUT:
        raise ValueError(unknown("dataflow", dataflow, _LAYOUT))
    M, N, K = _checked(at_least=0, M=M, N=N, K=K)
    rows, cols = _checked(at_least=1, rows=rows, cols=cols)
    if not M * N * K:
        return Schedule(row_folds=0, column_folds=0, cycles_per_fold=0, mapping_efficiency=0.0)
    over_rows, over_columns, time = ({"M": M, "N": N, "K": K}[d] for d in _LAYOUT[dataflow])
    row_folds, column_folds = ceil_div(over_rows, rows), ceil_div(over_columns, cols)
    load = 0 if dataflow == "os" else rows
    return Schedule(
        row_folds=row_folds,
        column_folds=column_folds,
        cycles_per_fold=load + rows + cols + time - 2,
        mapping_efficiency=over_rows * over_columns / (row_folds * rows * column_folds * cols),
    )


def systolic_cycles(M: int, N: int, K: int, rows: int = 32, cols: int = 32, dataflow: str = "ws") -> int:
    """Compute cycles of a GEMM [M, K] x [K, N]; 0 if any size is 0.

    Args:
        M: Rows of the left operand, 0 to 2^62.
        N: Columns of the right operand, 0 to 2^62.
        K: Length of the reduction, 0 to 2^62.
        rows: Rows of the array, 1 to 2^62.
        cols: Columns of the array, 1 to 2^62.
        dataflow: "ws", "os" or "is".

    Raises:
        ValueError: A size that is not a whole number in its range, or an unknown dataflow.
    """
    return systolic_schedule(M, N, K, rows=rows, cols=cols, dataflow=dataflow).cycles()


def _checked(*, at_least: int, **sizes: int) -> list[int]:
    """The sizes as Python's integers, which do not overflow."""
    for name, value in sizes.items():
        if not is_whole(value, at_least, 1 << 62):
            raise ValueError(f"{name} is a whole number from {at_least} to 2^62, got {name}={value!r}")
    return [int(value) for value in sizes.values()]
