"""What a GEMM asks of the array, before it is tiled over memories.

A fold is what the array holds at once. It takes

    cycles of a fold of t steps = max(t + fold_overhead, fold_minimum)

and a GEMM takes row_folds x column_folds of them. Where the memories hold only a part of the time dimension, each
fold is split into one for each tile of it, and the operand that stays in the array is read again. Of an event's
equal GEMMs `at_once` run side by side, so that they take ceil(count / at_once) rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.trace import GemmEvent


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient rounded up, exact for integers of any size."""
    return -(-numerator // denominator)


@dataclass(frozen=True, kw_only=True)
class ArrayWork:
    """What an event's GEMMs ask of the array.

    What has a default is that of a dataflow without folds over M, N and K, of which `time` holds everything.

    Attributes:
        macs: Multiply-accumulates that are done, over all `count` GEMMs; without inserted zeros that are skipped.
        count: Equal GEMMs.
        at_once: GEMMs that the array works on side by side, each with operands of its own.
        row_folds, column_folds: Folds of one GEMM over the rows and over the columns; 0 for one of size zero.
        time: Steps T of a fold.
        time_dimension: The dimension whose tiles split every fold: "M", "N" or "K"; "" where none does.
        row_dimension, column_dimension: The dimensions over the rows and the columns, or "".
        row_step, column_step: Elements of these that one fold covers; 1 where there is none.
        fold_overhead: Cycles of a fold beside its steps.
        fold_minimum: Least cycles of a fold.
        lhs_reads, rhs_reads: Elements of the operands that the array reads in one GEMM.
        result_writes: Partial sums and results that it writes.
        partial_reads: Partial sums that it reads back.
        stationary: The operand that stays in the array and is read again for each tile of the time dimension:
            "lhs", "rhs", or "".
        mapping_efficiency: Share of the processing elements that hold work, 0 to 1.
    """

    macs: int
    count: int
    at_once: int = 1
    row_folds: int = 1
    column_folds: int = 1
    time: int
    time_dimension: str = ""
    row_dimension: str = ""
    column_dimension: str = ""
    row_step: int = 1
    column_step: int = 1
    fold_overhead: int = 0
    fold_minimum: int = 0
    lhs_reads: int
    rhs_reads: int
    result_writes: int
    partial_reads: int
    stationary: str = ""
    mapping_efficiency: float

    @property
    def folds(self) -> int:
        """Folds of one GEMM."""
        return self.row_folds * self.column_folds

    @property
    def all_folds(self) -> int:
        """Folds of all GEMMs, of those that run side by side counted once."""
        return ceil_div(self.count, self.at_once) * self.folds

    def fold_cycles(self, steps: int) -> int:
        """Cycles of a fold of a number of steps."""
        return max(steps + self.fold_overhead, self.fold_minimum)

    def cycles(self, *, arrays: int = 1, startup: int = 0, time_tile: int | None = None) -> int:
        """Compute cycles of all GEMMs, whose folds are dealt out to a number of arrays.

        Args:
            arrays: Equal arrays.
            startup: Cycles before the first fold, once for all equal GEMMs: they are one call.
            time_tile: Steps that the memories hold at a time; None for all.
        """
        if not self.folds or not self.count:
            return 0
        tile = min(time_tile or self.time, self.time) if self.time_dimension else self.time
        whole, rest = divmod(self.time, tile)
        fold = whole * self.fold_cycles(tile) + (self.fold_cycles(rest) if rest else 0)
        return ceil_div(self.all_folds, arrays) * fold + startup


def empty_work(event: GemmEvent) -> ArrayWork:
    """The work of GEMMs of size zero."""
    return ArrayWork(
        macs=0,
        count=event.count,
        row_folds=0,
        column_folds=0,
        time=0,
        lhs_reads=0,
        rhs_reads=0,
        result_writes=0,
        partial_reads=0,
        mapping_efficiency=0.0,
    )
