"""The one table of a record: a line for each of our implementations and each of its targets.

Cases of one work (sizes, layers) share a line: figures are then "lowest to highest", and a target is met when every
case meets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.rows import Row, Work
from benchmarks.targets import Target

DASH = "-"
HEADINGS = ("work", "ours", "peers", "target", "reached", "met")


@dataclass(frozen=True, kw_only=True)
class Line:
    """The cells of a line, as text.

    Attributes:
        ours: Our implementation and its ratio to the work's baseline.
        peers: The others with theirs; the baseline's is 1.
        met: "met", "missed", "not measured", or a dash without a target.
    """

    work: str
    ours: str
    peers: str
    target: str = DASH
    reached: str = DASH
    met: str = DASH

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of the headings."""
        return (self.work, self.ours, self.peers, self.target, self.reached, self.met)


def lines(works: Iterable[Work]) -> list[Line]:
    """All lines, works in their order."""
    named: dict[str, list[Work]] = {}
    for work in works:
        named.setdefault(work.name, []).append(work)
    return [line for name, cases in named.items() for line in _lines_of(name, cases)]


def _lines_of(name: str, cases: list[Work]) -> list[Line]:
    labels = dict.fromkeys((row.implementation, row.ours) for work in cases for row in work.rows)
    peers = "; ".join(_cell(label, cases) for label, ours in labels if not ours) or DASH
    title = (
        f"{name} ({len(cases)} cases)" if len(cases) > 1 else ": ".join(filter(None, (name, cases[0].case)))
    )
    found: list[Line] = []
    for label, ours in labels:
        if ours:
            found += _lines_of_ours(label, cases, title, peers)
    return found or [Line(work=title, ours=DASH, peers=peers)]


def _lines_of_ours(label: str, cases: list[Work], title: str, peers: str) -> list[Line]:
    ours = _cell(label, cases)
    targets = dict.fromkeys(t for _, row in _rows(label, cases) for t in row.targets)
    if not targets:
        return [Line(work=title, ours=ours, peers=peers)]
    return [_target_line(target, label, cases, title, ours, peers) for target in targets]


def _target_line(target: Target, label: str, cases: list[Work], title: str, ours: str, peers: str) -> Line:
    reached = {w.case: w.reached(row, target) for w, row in _rows(label, cases) if target in row.targets}
    values = {case: value for case, value in reached.items() if value is not None}
    shown, met = DASH, "not measured"
    if values:
        missed = [case for case, value in values.items() if not target.met_by(value)]
        shown, met = _span(values.values()), "missed" if missed else "met"
        if missed and len(values) > 1:
            met = f"missed in {len(missed)} of {len(values)}: {', '.join(missed)}"
    return Line(work=title, ours=ours, peers=peers, target=target.words, reached=shown, met=met)


def _rows(label: str, cases: list[Work]) -> list[tuple[Work, Row]]:
    return [(work, row) for work in cases for row in work.rows if row.implementation == label]


def _cell(label: str, cases: list[Work]) -> str:
    """An implementation with its ratio, or its time where nothing was raced."""
    rows = [row for _, row in _rows(label, cases)]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    peaks = [row.peak_bytes for row in rows if row.peak_bytes is not None]
    times = [row.shortest_s for row in rows if row.shortest_s is not None]
    if ratios:
        return f"{label} {_span(ratios)}"
    if peaks:
        return f"{label} {_span(peak / 1e6 for peak in peaks)} MB"
    if times:
        return f"{label} {_time(min(times))}" + (f" to {_time(max(times))}" if len(times) > 1 else "")
    return f"{label} not installed"


def _span(values: Iterable[float]) -> str:
    low, high = min(values := list(values)), max(values)
    return _number(low) if _number(low) == _number(high) else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def without_repeats(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    """The cells of the lines; what a line has in common with the one above it, up to the target, is left empty."""
    rows: list[tuple[str, ...]] = []
    before: Line | None = None
    for line in lines:
        same_work = before is not None and before.work == line.work
        same_ours = same_work and before is not None and before.ours == line.ours
        named = (
            "" if same_work else line.work,
            "" if same_ours else line.ours,
            "" if same_work else line.peers,
        )
        rows.append((*named, line.target, line.reached, line.met))
        before = line
    return rows


def markdown(works: Iterable[Work]) -> str:
    """The table for a page."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *without_repeats(lines(works))]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
