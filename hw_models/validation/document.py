"""The comparisons as a Markdown page and as tables of the console."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from hw_models.validation.table import (
    Comparison,
    Point,
    Statistics,
    by_quantity,
    by_suite,
    grouped,
    number,
    percent,
    statistics,
)

_HEAD = """# Modelled against published

Written by `lowbit-sim validate --out docs/validation.md`; edit the comparisons, not this page. The error is what
the model says too much, in percent of the published figure; a median or largest error is one of magnitudes. Where a
published figure is a limit, the table says whether the model keeps it. Every comparison runs the profiles that come
with the package, or the same functions with a published machine's sizes; `lowbit-sim validate NAME --points` runs one
of them. A profile without a comparison says so under `validation`: see `lowbit-sim profiles list`.
"""

_POINT_COLUMNS = ("machine", "workload", "quantity", "published", "modelled", "unit", "error %", "note")
_STATISTICS = ("points", "exact", "median %", "largest %")
_SUITE_COLUMNS = ("machine", "workloads", *_STATISTICS)
_QUANTITY_COLUMNS = ("machine", "quantity", *_STATISTICS)

#: Columns of the page's prose.
_WIDTH = 118


def markdown(comparisons: dict[str, Comparison]) -> str:
    """The page with all comparisons."""
    sections = (_section(comparison) for comparison in comparisons.values())
    return "\n".join([_HEAD, _overview(comparisons.values()), *sections])


def _overview(comparisons: Iterable[Comparison]) -> str:
    rows = [
        [comparison.title.partition(":")[0], *row]
        for comparison in comparisons
        for row in _statistics_rows(grouped(comparison.points(), by_quantity))
    ]
    return "## In short\n\n" + _table(("against", *_QUANTITY_COLUMNS), rows)


def _section(comparison: Comparison) -> str:
    points = comparison.points()
    table = (
        _table(_SUITE_COLUMNS, _statistics_rows(grouped(points, by_suite)))
        if comparison.summarised
        else _table(_POINT_COLUMNS, [_point_row(point) for point in points])
    )
    return f"## {comparison.title}\n\n{textwrap.fill(comparison.about, _WIDTH)}\n\n{table}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def _point_row(point: Point) -> list[str]:
    error = percent(point.error) if not point.limit else _limit(point)
    published = f"{point.limit} {number(point.published)}".strip()
    return [
        point.machine,
        point.workload,
        point.quantity,
        published,
        number(point.modelled),
        point.unit,
        error,
        point.note,
    ]


def _limit(point: Point) -> str:
    return "kept" if point.keeps_limit else "broken"


def _statistics_rows(groups: Mapping[tuple[str, ...], Sequence[Point]]) -> list[list[str]]:
    """A row of errors for each group, and one of limits where it has any."""
    rows = []
    for key, points in groups.items():
        limits = [point for point in points if point.limit]
        found = statistics(points)
        if found is not None:
            rows.append([*key, *_cells(found)])
        if limits:
            kept = sum(point.keeps_limit for point in limits)
            rows.append([*key, str(len(limits)), f"{kept} of {len(limits)} limits kept", "", ""])
    return rows


def _cells(found: Statistics) -> list[str]:
    return [
        str(found.points),
        str(found.exact),
        f"{found.median_percent:.1f}",
        f"{found.largest_percent:.1f}",
    ]


def console_tables(comparisons: dict[str, Comparison], *, every_point: bool = False) -> Iterable[Table]:
    """A table of statistics for each comparison, or of every point."""
    for comparison in comparisons.values():
        points = comparison.points()
        columns = _POINT_COLUMNS if every_point else _QUANTITY_COLUMNS
        table = Table(*columns, title=comparison.title, title_justify="left")
        rows = (
            [_point_row(point) for point in points]
            if every_point
            else _statistics_rows(grouped(points, by_quantity))
        )
        for row in rows:
            table.add_row(*row)
        yield table
