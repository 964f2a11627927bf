"""Levels and shortest paths of a directed acyclic graph, by one pass over its nodes in topological order.

    level(v)  = 1 + max level(u) over the nodes u that v reads; 0 where it reads none
    s(u, v)   = edges of the shortest path from u to v; 1 where v reads u

Nodes of one level have no path between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: What stands for "no path" in `shortest_paths`.
NO_PATH = 0


def levels(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The level of each node.

    Args:
        inputs: The numbers of the nodes that each node reads, all smaller than its own.
    """
    found: list[int] = []
    for each in inputs:
        found.append(1 + max((found[number] for number in each), default=-1))
    return found


def shortest_paths(inputs: Sequence[Sequence[int]]) -> np.ndarray:
    """int32 [N, N]: s(u, v) at [v, u], and `NO_PATH` where no path leads from u to v.

    Args:
        inputs: As in `levels`.
    """
    count = len(inputs)
    far = np.iinfo(np.int32).max - 1  # one more step still fits
    found = np.full((count, count), far, dtype=np.int32)
    for node, each in enumerate(inputs):
        if each:
            found[node] = np.minimum(found[list(each)].min(axis=0) + 1, far)
            found[node, list(each)] = 1
    found[found == far] = NO_PATH
    return found
