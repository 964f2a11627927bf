"""Which points of a sweep are worth building: the Pareto front of time against energy.

A point dominates another one that it beats in time or in energy and loses to in neither. The front is what no point
dominates; points with equal time and energy are on it together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hw_models.explore.sweep import SweepPoint


def pareto_front(points: Sequence[SweepPoint]) -> list[bool]:
    """For each point whether it is on the front of seconds against nominal energy; refused points are not.

    One pass over the points in the order of their time: a point is on the front if it takes less energy than all
    faster ones, and no more than those that are equally fast.
    """
    priced = [i for i, point in enumerate(points) if not point.refusal]
    on_front = [False] * len(points)
    least, last = math.inf, (math.nan, math.nan)
    for i in sorted(priced, key=lambda i: (points[i].seconds, points[i].energy_pj)):
        figures = (points[i].seconds, points[i].energy_pj)
        if figures[1] < least or figures == last:
            on_front[i] = True
            least, last = figures[1], figures
    return on_front


def pareto_front_reference(points: Sequence[SweepPoint]) -> list[bool]:
    """The definition, point against point."""
    return [
        not point.refusal and not any(_dominates(other, point) for other in points if not other.refusal)
        for point in points
    ]


def _dominates(a: SweepPoint, b: SweepPoint) -> bool:
    no_worse = a.seconds <= b.seconds and a.energy_pj <= b.energy_pj
    return no_worse and (a.seconds, a.energy_pj) != (b.seconds, b.energy_pj)
