"""What SCALE-Sim prints for a GEMM, its defects included: to compare with it, never to price with.

SCALE-Sim 3.0.0 prints the index of the last cycle, one less than the number of cycles (its issue 125), and for the
output-stationary dataflow it adds rows + columns writes for each fold (its issue 166). It never reads partial sums
back. `systolic_work` is what we hold to be right.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.systolic import systolic_work


@dataclass(frozen=True, kw_only=True)
class ScaleSimFigures:
    """SCALE-Sim's figures for a GEMM.

    Attributes:
        cycles: What it prints as total cycles.
        mapping_efficiency_percent: Share of the array that holds work, mean over the folds.
        utilization_percent: Multiply-accumulates over the array's peak in the printed cycles.
        input_reads, filter_reads, output_writes: Elements at the SRAMs.
    """

    cycles: int
    mapping_efficiency_percent: float
    utilization_percent: float
    input_reads: int
    filter_reads: int
    output_writes: int


def scalesim_figures(M: int, N: int, K: int, *, rows: int, cols: int, dataflow: str) -> ScaleSimFigures:
    """The figures for a GEMM [M, K] x [K, N], each size 1 or more; the array and dataflow as in `systolic_work`.

    Raises:
        ValueError: As `systolic_work`.
    """
    work = systolic_work(M, N, K, rows=rows, cols=cols, dataflow=dataflow)
    printed = work.cycles() - 1
    extra = work.folds * (rows + cols) if dataflow == "os" else 0
    return ScaleSimFigures(
        cycles=printed,
        mapping_efficiency_percent=100 * work.mapping_efficiency,
        utilization_percent=100 * M * N * K / (printed * rows * cols),
        input_reads=work.lhs_reads,
        filter_reads=work.rhs_reads,
        output_writes=work.result_writes + extra,
    )
