"""Modelled against published: a point, its error, and the tables that show them.

`error` is signed and in percent of the published figure: +10 means that the model says a tenth more. Statistics are
over its magnitude. Some published figures are limits, which a model must keep rather than meet; a point's `limit`
says so, and its error is left out of the statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

#: How a modelled value stands to a published limit.
Limit = Literal["", "at least", "at most"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One published figure and what the model says.

    Attributes:
        source: Where the figure was published, in a few words.
        machine: What machine it is of, and the profile that models it.
        workload: What ran.
        quantity: What was measured.
        published, modelled: Both values, in `unit`.
        unit: Their unit; "" for a plain number.
        note: What a reader must know about the difference.
        limit: "at least" or "at most" if the model's value is to lie on that side of the published one; else "".
    """

    source: str
    machine: str
    workload: str
    quantity: str
    published: float
    modelled: float
    unit: str
    note: str = ""
    limit: Limit = ""

    def __post_init__(self) -> None:
        for name in ("published", "modelled"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(
                    f"{name} is a finite number, got {getattr(self, name)!r} ({self.workload}, {self.quantity})"
                )

    @property
    def error(self) -> float:
        """Percent that the model says too much; infinite if nothing but zero would have been right."""
        if self.published:
            return 100 * (self.modelled - self.published) / self.published
        return 0.0 if self.modelled == 0 else math.copysign(math.inf, self.modelled)

    @property
    def is_exact(self) -> bool:
        """Whether both values agree but for the rounding of the last digits of a float."""
        return math.isclose(self.published, self.modelled, rel_tol=1e-9)

    @property
    def keeps_limit(self) -> bool:
        """Whether the model is on the right side of a limit; True where there is none."""
        if self.limit == "at least":
            return self.modelled >= self.published
        return self.limit != "at most" or self.modelled <= self.published


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The points of one publication.

    Attributes:
        title: Heading.
        about: What is compared, and how to read it.
        points: Gives the points.
        summarised: Whether a document shows statistics of groups in place of each point.
    """

    title: str
    about: str
    points: Callable[[], list[Point]]
    summarised: bool = False


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of a number of points that are no limits: how many, how many exact, and the magnitudes of their errors."""

    points: int
    exact: int
    median_percent: float
    largest_percent: float


def statistics(points: Iterable[Point]) -> Statistics | None:
    """Statistics of those points that are no limits; None if there are none."""
    met = [point for point in points if not point.limit]
    if not met:
        return None
    magnitudes = [abs(point.error) for point in met]
    return Statistics(
        points=len(met),
        exact=sum(point.is_exact for point in met),
        median_percent=median(magnitudes),
        largest_percent=max(magnitudes),
    )


def grouped(points: Iterable[Point], key: Callable[[Point], Any]) -> dict[Any, list[Point]]:
    """The points by a key, in the order in which keys appear."""
    groups: dict[Any, list[Point]] = {}
    for point in points:
        groups.setdefault(key(point), []).append(point)
    return groups


def by_quantity(point: Point) -> tuple[str, str]:
    """The key of the statistics of a comparison: machine and quantity."""
    return point.machine, point.quantity


def by_suite(point: Point) -> tuple[str, str]:
    """The key of a summarised comparison: machine, and the workload up to its first colon."""
    return point.machine, point.workload.partition(":")[0]


def number(value: float) -> str:
    """A value in at most five digits, thousands apart."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(value: float) -> str:
    """A signed percentage of a decimal."""
    return "0" if abs(value) < 0.05 else f"{value:+.1f}"


def to_json(comparisons: dict[str, Comparison]) -> dict[str, list[dict[str, Any]]]:
    """Every point of every comparison, by its key."""
    return {
        key: [{**asdict(point), "error_percent": point.error} for point in comparison.points()]
        for key, comparison in comparisons.items()
    }
