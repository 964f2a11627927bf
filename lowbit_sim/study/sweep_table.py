"""A sweep as a table of its best points and as CSV of all of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hw_models.explore.pareto import pareto_front
from hw_models.explore.sweep import SweepPoint
from hw_models.mapping.search import Objective
from lowbit_sim.study.cost_table import energy_range
from lowbit_sim.study.quantities import counted, with_prefix

#: Rows that are printed; all are in the CSV.
ROWS = 30

#: Different reasons for refused points that are printed.
_REASONS = 5

_FIGURES = (
    "cycles",
    "seconds",
    "energy_low_pj",
    "energy_pj",
    "energy_high_pj",
    "edp",
    "utilization",
    "dram_bytes",
    "area_mm2",
)


def figure_of_merit(point: SweepPoint, objective: Objective) -> float:
    """What a sweep is sorted by: time, nominal energy or the energy-delay product."""
    return {"cycles": point.seconds, "energy": point.energy_pj, "edp": point.edp}[objective]


def best_first(points: Sequence[SweepPoint], objective: Objective) -> list[SweepPoint]:
    """The points with a cost, best first; then the refused ones in the order of the grid."""
    priced = [point for point in points if not point.refusal]
    refused = [point for point in points if point.refusal]
    return sorted(priced, key=lambda p: (figure_of_merit(p, objective), p.energy_pj, p.seconds)) + refused


def sweep_table(points: Sequence[SweepPoint], title: str, objective: Objective) -> RenderableType:
    """The best points, those on the Pareto front of time against energy marked; and why others have no cost."""
    front = {id(p) for p, on_front in zip(points, pareto_front(points), strict=True) if on_front}
    shown = [point for point in best_first(points, objective) if not point.refusal][:ROWS]
    table = Table(title=Text(title), header_style="bold", caption_justify="left")
    table.add_column("", no_wrap=True)
    for key, _ in points[0].settings if points else ():
        # Where it is too wide a key breaks at its dots.
        table.add_column(Text(key.replace(".", ".\n")), justify="right", overflow="fold")
    for heading in ("cycles", "time", "energy", "low - high", "J s", "use"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in shown:
        table.add_row("*" if id(point) in front else "", *_cells(point))
    table.caption = Text(_caption(points, len(shown), len(front), objective))
    return Group(table, *map(Text, _refusals(points)))


def _cells(point: SweepPoint) -> list[Text]:
    figures = [
        with_prefix(point.cycles, smallest=0),
        with_prefix(point.seconds, "s"),
        with_prefix(point.energy_pj * 1e-12, "J"),
        energy_range(point.energy_low_pj, point.energy_high_pj),
        f"{point.edp:.3g}",
        f"{100 * point.utilization:.1f} %",
    ]
    return [Text(str(value)) for _, value in point.settings] + [Text(figure) for figure in figures]


def _caption(points: Sequence[SweepPoint], shown: int, front: int, objective: Objective) -> str:
    merit = {"cycles": "time", "energy": "energy", "edp": "energy-delay product"}[objective]
    rest = (
        "" if shown == len(points) else f" ({counted(len(points), 'point')} in all; --csv FILE has every one)"
    )
    return (
        f"{counted(shown, 'point')} by {merit}, least first{rest}. * marks the Pareto front "
        f"({counted(front, 'point')}): "
        "no other one beats these in both time and energy."
    )


def _refusals(points: Sequence[SweepPoint]) -> list[str]:
    """Each reason once, with how many points have it and the settings of the first."""
    reasons: dict[str, list[SweepPoint]] = {}
    for point in points:
        if point.refusal:
            reasons.setdefault(point.refusal, []).append(point)
    lines = [
        f"No cost for {counted(len(refused), 'point')}, such as {_setting(refused[0])}: {reason}"
        for reason, refused in list(reasons.items())[:_REASONS]
    ]
    more = len(reasons) - _REASONS
    return [*lines, f"{counted(more, 'further reason')} in the CSV."] if more > 0 else lines


def _setting(point: SweepPoint) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.settings)


def sweep_csv(points: Sequence[SweepPoint], objective: Objective) -> str:
    """Every point as CSV, best first, refused ones at the end with the reason."""
    front = {id(p) for p, on_front in zip(points, pareto_front(points), strict=True) if on_front}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(key for key, _ in points[0].settings), *_FIGURES, "pareto", "refusal"])
    for point in best_first(points, objective):
        figures = ["" if point.refusal else _blank(getattr(point, name)) for name in _FIGURES]
        writer.writerow(
            [*(value for _, value in point.settings), *figures, int(id(point) in front), point.refusal]
        )
    return text.getvalue()


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def sweep_dict(points: Sequence[SweepPoint], objective: Objective) -> list[dict[str, object]]:
    """Every point as plain values by name, best first, for JSON."""
    front = {id(p) for p, on_front in zip(points, pareto_front(points), strict=True) if on_front}
    return [
        {"settings": dict(point.settings)}
        | {name: None if point.refusal else getattr(point, name) for name in _FIGURES}
        | {"pareto": id(point) in front, "refusal": point.refusal}
        for point in best_first(points, objective)
    ]
