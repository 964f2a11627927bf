"""What one run measured: works (with their cases), and in each a row for every implementation.

The ratio of a row is its shortest round over the shortest round of the baseline that ran in turn with it
(`race.py`). Two rows of one work compare by their ratios, so that both comparisons are of rounds run side by side.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.targets import Target


@dataclass(frozen=True, kw_only=True)
class Row:
    """One implementation of one work.

    Attributes:
        ratio: To the baseline of the work; None where none was raced against.
        baseline_shortest_s: The baseline's shortest round of those in turn with this row's; the ratio's divisor.
        peak_bytes: Memory at its peak, where that was measured.
        parts: Seconds of what the time consists of, where that was measured.
        missing: Why the implementation could not run; then nothing was measured.
    """

    implementation: str
    ours: bool = False
    shortest_s: float | None = None
    median_s: float | None = None
    iqr_s: float | None = None
    rounds: int = 0
    ratio: float | None = None
    baseline_shortest_s: float | None = None
    moved_bytes: int | None = None
    macs: int | None = None
    peak_bytes: int | None = None
    parts: Mapping[str, float] | None = None
    targets: tuple[Target, ...] = ()
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """Implementations of the same work on the same operands; the baseline, if any, is the first row."""

    name: str
    case: str = ""
    rows: tuple[Row, ...] = ()

    def row(self, implementation: str | None) -> Row | None:
        """The row of an implementation."""
        return next((row for row in self.rows if row.implementation == implementation), None)

    def reached(self, row: Row, target: Target) -> float | None:
        """The measured value of a target's quantity; None where something is missing for it."""
        if target.quantity == "seconds":
            return row.shortest_s
        other = self.row(target.against)
        if other is None or other.missing is not None or row.missing is not None:
            return None
        if target.quantity == "peak_bytes":
            return _quotient(row.peak_bytes, other.peak_bytes)
        time = _time(row, other)
        if time is None or target.quantity == "time":
            return time
        moved = _quotient(row.moved_bytes, other.moved_bytes) if target.quantity == "bandwidth" else 1.0
        return None if moved is None else moved / time


def _time(row: Row, other: Row) -> float | None:
    """The quotient of two rows' times."""
    if row.ratio is not None and other.ratio is not None:
        return row.ratio / other.ratio
    return _quotient(row.shortest_s, other.shortest_s)


def _quotient(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other


def works_of(report: dict[str, Any]) -> list[Work]:
    """The works in pytest-benchmark's report, in the order in which they ran.

    A benchmark that names no work (`race.describe`) is one of ours, of its group and under its test's name.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    baselines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for bench in report["benchmarks"]:
        info = bench["extra_info"]
        key = (info.get("work", bench["group"]), info.get("case", ""))
        found.setdefault(key, []).append(_measured(bench))
        if "baseline" in info:
            baselines.setdefault(key, []).append(info["baseline"])
    for gone in report.get("missing", []):
        row = Row(implementation=gone["implementation"], missing=gone["why"])
        found.setdefault((gone["work"], gone["case"]), []).append(row)
    return [
        Work(name=name, case=case, rows=(*_baseline(baselines.get((name, case), [])), *rows))
        for (name, case), rows in found.items()
    ]


def _measured(bench: dict[str, Any]) -> Row:
    info, stats = bench["extra_info"], bench["stats"]
    row = Row(
        implementation=info.get("implementation", bench["name"].removeprefix("test_")),
        ours=info.get("ours", True),
        shortest_s=stats["min"],
        median_s=stats["median"],
        iqr_s=stats["iqr"],
        rounds=stats["rounds"],
        moved_bytes=info.get("moved_bytes"),
        macs=info.get("macs"),
        peak_bytes=info.get("peak_bytes"),
        parts=info.get("parts"),
        targets=tuple(Target(**target) for target in info.get("targets", [])),
    )
    if "seconds" in info:  # measured inside a process that the benchmark started
        row = replace(row, **_spread(info["seconds"]))
    if "baseline" in info:
        beside = min(info["baseline"]["seconds"])
        row = replace(row, ratio=stats["min"] / beside, baseline_shortest_s=beside)
    return row


def _baseline(raced: list[dict[str, Any]]) -> list[Row]:
    """The baseline's row, of the rounds beside all its contenders.

    Raises:
        ValueError: If contenders of one work ran beside different baselines.
    """
    if not raced:
        return []
    names = {one["implementation"] for one in raced}
    if len(names) > 1:
        raise ValueError(f"one work has several baselines: {', '.join(sorted(names))}")
    seconds = [value for one in raced for value in one["seconds"]]
    facts = {key: value for key, value in raced[0].items() if key != "seconds"}
    return [Row(**facts, **_spread(seconds), ratio=1.0)]


def _spread(seconds: list[float]) -> dict[str, Any]:
    low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return {"shortest_s": min(seconds), "median_s": median, "iqr_s": high - low, "rounds": len(seconds)}
