"""What a workload costs on a machine, as a table: by role, with the energy's range, and where time and energy go."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import hw_models
from lowbit_sim.study.quantities import exactly, with_prefix

_PJ = 1e-12

#: Shares below this are summed up as "other".
_SMALLEST_SHARE = 0.01


def cost_table(report: hw_models.CostReport, title: str) -> RenderableType:
    """Cycles, energy, traffic and utilisation in total and by role, what they are made of, and the report's notes."""
    table = Table(title=Text(title), header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in ("cycles", "time", "energy", "low - high", "MACs", "use", "DRAM"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [(role, cost) for role, cost in report.by_role.items() if cost.cycles]
    for label, cost in [*rows, ("total", report.total)]:
        table.add_row(
            label,
            exactly(cost.cycles),
            with_prefix(cost.cycles / report.frequency_hz, "s"),
            with_prefix(cost.energy_pj * _PJ, "J"),
            energy_range(cost.energy_low_pj, cost.energy_high_pj),
            with_prefix(cost.macs, smallest=0),
            f"{100 * cost.utilization:.1f} %",
            with_prefix(cost.dram_bytes, "B", smallest=0),
            style="bold" if label == "total" else "",
        )
    return Group(table, *map(Text, _lines(report)), *(Text(f"Note: {note}") for note in report.notes))


def energy_range(low_pj: float, high_pj: float) -> str:
    """The two ends of an energy, the unit once where they share it: "15.2 - 96.4 mJ"; "-" where they read alike."""
    low, high = (with_prefix(pj * _PJ, "J") for pj in (low_pj, high_pj))
    if low == high:
        return "-"
    unit = high.split()[1]
    return f"{low.removesuffix(f' {unit}')} - {high}"


def _lines(report: hw_models.CostReport) -> list[str]:
    lines = [
        "Energy: " + _energy(report),
        "Time by kind of work: " + _shares({kind: cost.cycles for kind, cost in report.by_kind.items()}),
        "Time by what it waits for: " + _shares(report.total.cycles_by_bound),
        f"Energy-delay product: {report.edp:.3g} J s",
    ]
    if report.footprint.total:
        lines.append(f"Memory that the step keeps: {_footprint(report)}")
    if report.area_mm2 is not None:
        lines.append(f"Area of the arrays' multiply-accumulate units: {report.area_mm2:.3g} mm^2")
    if report.devices > 1:
        lines.append(
            f"One of {report.devices} machines that train together; all-reduce of the gradients included"
        )
    return lines


def _energy(report: hw_models.CostReport) -> str:
    """What takes the energy, and whether that is switching alone."""
    shares = _shares({name: e.nominal_pj for name, e in report.energy.items()})
    static = report.energy.get("static")
    given = static is not None and static.nominal_pj > 0
    return shares if given or shares == "none" else f"{shares}; the profile gives no static power"


def _shares(parts: Mapping[str, float]) -> str:
    """The parts of a whole, largest first: "multiply 40 %, dram 35 %"."""
    whole = sum(parts.values())
    if not whole:
        return "none"
    named = sorted(parts.items(), key=lambda part: -part[1])
    shown = [(name, value / whole) for name, value in named if value >= _SMALLEST_SHARE * whole]
    rest = 1 - sum(share for _, share in shown)
    shown += [("other", rest)] if rest > _SMALLEST_SHARE / 10 else []
    return ", ".join(f"{name} {100 * share:.3g} %" for name, share in shown)


def _footprint(report: hw_models.CostReport) -> str:
    """What a step keeps: "96 MB: weights 40 %, activations 20 %, ..."."""
    kept = report.footprint
    parts = {
        "weights": kept.weights,
        "gradients": kept.gradients,
        "optimiser state": kept.optimizer_state,
        "activations for the backward pass": kept.activations,
    }
    return f"{with_prefix(kept.total, 'B', smallest=0)}: {_shares(parts)}"
