"""SCALE-Sim 3.0.0 (2.0.2 agrees): schedules of 541 layers on systolic arrays.

SCALE-Sim (Samajdar et al., ISPASS 2020) walks a layer cycle by cycle; ours are the closed forms. Its conventions,
with the two that are defects, are those of `hw_models.compute.scalesim`; the cycles compared here are the schedule's,
one more than the tool prints. Layers: public networks, with SRAM sizes that cause no stalls. Utilisation is compared
where a figure was kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hw_models.compute.scalesim import scalesim_figures
from hw_models.compute.systolic import systolic_cycles
from hw_models.validation.data_files import read_rows
from hw_models.validation.table import Point

SOURCE = "SCALE-Sim 3.0.0"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer that SCALE-Sim ran, and its figures; `utilization_percent` is None where none was kept."""

    topology: str
    layer: str
    dataflow: str
    rows: int
    cols: int
    M: int
    N: int
    K: int
    schedule_cycles: int
    mapping_efficiency_percent: float
    utilization_percent: float | None
    input_reads: int
    filter_reads: int
    output_writes: int

    @property
    def workload(self) -> str:
        """Topology and layer, and the array's size."""
        return f"{self.topology}: {self.layer} on {self.rows} x {self.cols}"


def _case(row: dict[str, str]) -> Case:
    utilization = row["overall_util_pct"]
    return Case(
        topology=row["topology"],
        layer=row["layer"],
        dataflow=row["dataflow"],
        rows=int(row["array_rows"]),
        cols=int(row["array_cols"]),
        M=int(row["M"]),
        N=int(row["N"]),
        K=int(row["K"]),
        schedule_cycles=int(row["schedule_cycles"]),
        mapping_efficiency_percent=float(row["mapping_eff_pct"]),
        utilization_percent=float(utilization) if utilization else None,
        input_reads=int(row["sram_if_reads"]),
        filter_reads=int(row["sram_fi_reads"]),
        output_writes=int(row["sram_of_writes"]),
    )


@cache
def cases() -> tuple[Case, ...]:
    """All layers."""
    return tuple(_case(row) for row in read_rows("scalesim_cases.csv"))


def points() -> list[Point]:
    """Every figure of every layer."""
    return [point for case in cases() for point in _points(case)]


def _points(case: Case) -> Iterator[Point]:
    shape = {"rows": case.rows, "cols": case.cols, "dataflow": case.dataflow}
    figures = scalesim_figures(case.M, case.N, case.K, **shape)
    found = [
        ("schedule cycles", case.schedule_cycles, systolic_cycles(case.M, case.N, case.K, **shape), "cycles"),
        ("mapping efficiency", case.mapping_efficiency_percent, figures.mapping_efficiency_percent, "%"),
        ("utilisation", case.utilization_percent, figures.utilization_percent, "%"),
        ("SRAM reads of inputs", case.input_reads, figures.input_reads, "elements"),
        ("SRAM reads of filters", case.filter_reads, figures.filter_reads, "elements"),
        ("SRAM writes of outputs", case.output_writes, figures.output_writes, "elements"),
    ]
    for quantity, published, modelled, unit in found:
        if published is not None:
            yield Point(
                source=SOURCE,
                machine=f"systolic array, {case.dataflow}",
                workload=case.workload,
                quantity=quantity,
                published=float(published),
                modelled=float(modelled),
                unit=unit,
            )
