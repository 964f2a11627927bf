"""A sweep as a table of its best points and as CSV of all of them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hw_models.explore.axis import Value
from hw_models.explore.pareto import pareto_front
from hw_models.explore.sweep import SweepPoint
from hw_models.mapping.search import Objective
from lowbit_sim.study.cost_table import energy_range
from lowbit_sim.study.quantities import counted, with_prefix

#: Rows that are printed; all are in the CSV.
ROWS = 30

#: Different notes that are printed.
_NOTES = 10

#: Different reasons for refused points that are printed.
_REASONS = 5

#: Letters of a key in its column's heading; a longer word of it breaks.
_KEY_WIDTH = 10

#: The width that the table is made for, and of a column's frame and padding.
_COLUMNS, _FRAME = 100, 3

_HEADINGS = ("cycles", "time", "energy", "low - high", "J s", "use")

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
    keys = [key for key, _ in points[0].settings] if points else []
    rows = [_cells(point) for point in shown]
    widths = [_setting_width(key, shown) for key in keys]
    for key, width in zip(keys, widths, strict=True):
        # A key breaks at its dots and where it is wider than its column; a value never breaks.
        table.add_column(Text(key.replace(".", ".\n")), justify="right", overflow="fold", width=width)
    headings = _headings(sum(width + _FRAME for width in widths), rows, objective)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for point, figures in zip(shown, rows, strict=True):
        cells = [setting_text(value) for _, value in point.settings] + [figures[name] for name in headings]
        table.add_row("*" if id(point) in front else "", *(Text(cell, no_wrap=True) for cell in cells))
    left_out = [heading for heading in _HEADINGS if heading not in headings]
    table.caption = Text(_caption(points, len(shown), len(front), objective, left_out))
    return Group(table, *map(Text, [*_notes(points), *_refusals(points)]))


def _setting_width(key: str, shown: Sequence[SweepPoint]) -> int:
    words = min(_KEY_WIDTH, 1 + max(map(len, key.split("."))))
    return max([words, *(len(setting_text(dict(point.settings)[key])) for point in shown)])


def _headings(settings_width: int, rows: Sequence[Mapping[str, str]], objective: Objective) -> list[str]:
    """The figures that fit beside the settings: the range and the product go first, unless they are asked for."""
    headings: list[str] = list(_HEADINGS)
    for spare in ("low - high",) if objective == "edp" else ("J s", "low - high"):
        widths = [max([len(name), *(len(row[name]) for row in rows)]) for name in headings]
        if _FRAME + 2 + settings_width + sum(width + _FRAME for width in widths) > _COLUMNS:
            headings.remove(spare)
    return headings


def setting_text(value: Value) -> str:
    """A key's value; a large round number with its prefix: 18000000000 as "18 G"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        for power, prefix in ((12, "T"), (9, "G"), (6, "M")):
            if abs(value) >= 10**power and round(value / 10**power, 3) * 10**power == value:
                return f"{value / 10**power:g} {prefix}"
    return str(value)


def _cells(point: SweepPoint) -> dict[str, str]:
    return {
        "cycles": with_prefix(point.cycles, smallest=0),
        "time": with_prefix(point.seconds, "s"),
        "energy": with_prefix(point.energy_pj * 1e-12, "J"),
        "low - high": energy_range(point.energy_low_pj, point.energy_high_pj),
        "J s": f"{point.edp:.3g}",
        "use": f"{100 * point.utilization:.1f} %",
    }


def _caption(
    points: Sequence[SweepPoint], shown: int, front: int, objective: Objective, left_out: Sequence[str]
) -> str:
    merit = {"cycles": "time", "energy": "energy", "edp": "energy-delay product"}[objective]
    rest = (
        "" if shown == len(points) else f" ({counted(len(points), 'point')} in all; --csv FILE has every one)"
    )
    return (
        f"{counted(shown, 'point')} by {merit}, least first{rest}. * marks the Pareto front "
        f"({counted(front, 'point')}): "
        "no other one beats these in both time and energy."
        + (f" In the CSV alone, for want of room: {' and '.join(left_out)}." if left_out else "")
    )


def _notes(points: Sequence[SweepPoint]) -> list[str]:
    """Each note once, and how many points have it where not all do."""
    priced = [point for point in points if not point.refusal]
    counts = Counter(note for point in priced for note in point.notes)
    told = [
        f"Note: {note}" + (f" ({counted(count, 'point')})" if count < len(priced) else "")
        for note, count in list(counts.items())[:_NOTES]
    ]
    more = len(counts) - _NOTES
    return [*told, f"{counted(more, 'further note')}: estimate one point alone."] if more > 0 else told


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
