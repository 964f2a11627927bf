"""A GEMM on a systolic array, in closed form.

A dataflow lays two of a GEMM's three dimensions over the rows and columns of the array; the third is time.
Where a dimension is longer than the array, the GEMM runs in folds, each of which costs the full array:

| dataflow                   | rows | columns | time T | cycles per fold, exposed | hidden              |
|----------------------------|------|---------|--------|--------------------------|---------------------|
| "os" (output stationary)   | M    | N       | K      | R + C + K - 2            | max(K + R - 2, R)   |
| "ws" (weight stationary)   | K    | N       | M      | 2R + C + M - 2           | max(M + R - 2, R)   |
| "is" (input stationary)    | K    | M       | N      | 2R + C + N - 2           | max(N + R - 2, R)   |

cycles = row folds x column folds x cycles per fold. One exposed fold by hand, R = C = 4 and M = N = K = 4:

* os: the corner processing element (3, 3) sees its first pair of operands after 3 + 3 cycles of skew and
  then takes K = 4 cycles: 6 + 4 = 10.
* ws: R = 4 cycles push the weights down the columns. Then T = M = 4 rows of the input enter; the last one
  enters at cycle 3 and needs 3 + 3 hops to the corner: 4 + 3 + 6 + 1 = 14. "is" is the same with the operands
  exchanged.

The exposed forms are the schedules of SCALE-Sim 3.0.0 (Samajdar et al., "A systematic methodology for
characterizing scalability of DNN accelerators using SCALE-Sim", ISPASS 2020), which prints the index of the last
cycle, one less (`scalesim.py`). With hidden loading a second set of registers takes the next fold's stationary
operand while a fold computes, and columns start on the next fold as soon as they are done, so that of the skew only
the one over the rows shows; the form is a reading of Gemmini's double-buffered array (Genc et al., DAC 2021), which
`hw_models.validation.gemmini` compares with RTL. A fold never takes less than the R cycles that the next load takes.

What the array reads and writes, in elements (rf, cf = row and column folds):

| dataflow | lhs [M, K] | rhs [K, N] | result [M, N] |
|----------|------------|------------|---------------|
| os       | cf         | rf         | 1             |
| ws       | cf         | 1          | rf            |
| is       | 1          | cf         | rf            |

times their size. These are SCALE-Sim's counts, but that it never reads partial sums back: here each of the rf
passes over the result but the first reads the partial sums of the one before.
"""

from __future__ import annotations

from typing import Literal

from hw_models.compute.work import ArrayWork, ceil_div
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

Loading = Literal["exposed", "hidden"]
LOADINGS = ("exposed", "hidden")

#: The dimensions that lie over the rows, over the columns and in time.
LAYOUT = {"os": "MNK", "ws": "KNM", "is": "KMN"}

#: The operand that stays in the array: the one without the time dimension.
STATIONARY = {"os": "", "ws": "rhs", "is": "lhs"}

#: The largest size of a GEMM and of an array.
LARGEST = 1 << 62


def fold_cost(rows: int, cols: int, dataflow: str, loading: str) -> tuple[int, int]:
    """Cycles of a fold beside its steps, and the least cycles of a fold."""
    if loading == "hidden":
        return max(rows - 2, 0), rows
    load = 0 if dataflow == "os" else rows
    return load + rows + cols - 2, 0


def systolic_work(
    M: int,
    N: int,
    K: int,
    *,
    rows: int,
    cols: int,
    dataflow: str,
    loading: str = "exposed",
    packed: int = 1,
    count: int = 1,
) -> ArrayWork:
    """What `count` GEMMs [M, K] x [K, N] ask of a systolic array.

    Args:
        M: Rows of the left operand, 0 to 2^62.
        N: Columns of the right operand, 0 to 2^62.
        K: Length of the reduction, 0 to 2^62.
        rows: Rows of the array, 1 to 2^62.
        cols: Columns of the array, 1 to 2^62.
        dataflow: "ws", "os" or "is".
        loading: "exposed", or "hidden" behind compute (double-buffered).
        packed: Products along the reduction that a processing element adds up in a cycle: the reduction is
            ceil(K / packed) long, while the array and its fill time stay as they are.
        count: Equal GEMMs.

    Raises:
        ValueError: A size that is not a whole number in its range, an unknown dataflow or loading.
    """
    _check_words(dataflow, loading)
    M, N, K = _checked(at_least=0, M=M, N=N, K=K)
    rows, cols = _checked(at_least=1, rows=rows, cols=cols)
    row, column, time = LAYOUT[dataflow]
    steps = {"M": M, "N": N, "K": ceil_div(K, packed)}
    step = {"M": 1, "N": 1, "K": packed}
    some = min(M * N * K, 1)
    rf, cf = some * ceil_div(steps[row], rows), some * ceil_div(steps[column], cols)
    lhs, rhs, result = {"os": (cf, rf, some), "ws": (cf, some, rf), "is": (some, cf, rf)}[dataflow]
    overhead, minimum = fold_cost(rows, cols, dataflow, loading)
    return ArrayWork(
        macs=count * M * N * K,
        count=count,
        row_folds=rf,
        column_folds=cf,
        time=steps[time],
        time_dimension=time,
        row_dimension=row,
        column_dimension=column,
        row_step=rows * step[row],
        column_step=cols * step[column],
        fold_overhead=overhead,
        fold_minimum=minimum,
        lhs_reads=lhs * M * K,
        rhs_reads=rhs * K * N,
        result_writes=result * M * N,
        partial_reads=max(result - 1, 0) * M * N,
        stationary=STATIONARY[dataflow],
        mapping_efficiency=steps[row] * steps[column] / (rf * rows * cf * cols) if some else 0.0,
    )


def systolic_cycles(
    M: int,
    N: int,
    K: int,
    rows: int = 32,
    cols: int = 32,
    dataflow: str = "ws",
    loading: str = "exposed",
) -> int:
    """Compute cycles of a GEMM [M, K] x [K, N]; 0 if any size is 0.

    The arguments are those of `systolic_work`, which says which sizes there are and what it raises.
    """
    return systolic_work(M, N, K, rows=rows, cols=cols, dataflow=dataflow, loading=loading).cycles()


def _check_words(dataflow: str, loading: str) -> None:
    if dataflow not in LAYOUT:
        raise ValueError(unknown("dataflow", dataflow, LAYOUT))
    if loading not in LOADINGS:
        raise ValueError(unknown("loading", loading, LOADINGS))


def _checked(*, at_least: int, **sizes: int) -> list[int]:
    """The sizes as Python's integers, which do not overflow."""
    for name, value in sizes.items():
        if not is_whole(value, at_least, LARGEST):
            raise ValueError(f"{name} is a whole number from {at_least} to 2^62, got {name}={value!r}")
    return [int(value) for value in sizes.values()]
