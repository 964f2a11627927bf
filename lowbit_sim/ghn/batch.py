"""Several networks' graphs as one: their nodes one after the other, no edge between two of them.

The GNN visits nodes level by level, those of all graphs together: nodes of one level don't see each other, so the
result is that of visiting one node after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.ghn.features import node_rows
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.paths import NO_PATH, levels, shortest_paths


@dataclass(frozen=True, eq=False)
class GraphTensors:
    """What the hypernetwork reads of one network; made once for each.

    Args:
        graph: The graph.
        classes: Number of classes.
    """

    graph: NetworkGraph
    classes: int

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """As `features.node_rows`."""
        return node_rows(self.graph, self.classes)

    @cached_property
    def levels(self) -> list[int]:
        """Of each node."""
        return levels([node.inputs for node in self.graph.nodes])

    @cached_property
    def paths(self) -> np.ndarray:
        """int32 [N, N]; see `paths.shortest_paths`."""
        return shortest_paths([node.inputs for node in self.graph.nodes])


@dataclass(frozen=True, eq=False, kw_only=True)
class GraphBatch:
    """Graphs as one, on a device.

    Attributes:
        graphs: The graphs.
        kinds, shapes: Rows of the nodes' features, int64 [N] and [N, 4].
        levels: The nodes of each level.
        direct: float32 [N, N], 1 at [v, u] where v reads u.
        virtual: float32 [N, N], 1 / s(u, v) where a path of at most the cut-off's length leads from u to v.
    """

    graphs: tuple[NetworkGraph, ...]
    kinds: Tensor
    shapes: Tensor
    levels: tuple[Tensor, ...]
    direct: Tensor
    virtual: Tensor

    @property
    def nodes(self) -> int:
        """Nodes of all graphs."""
        return len(self.kinds)


def graph_batch(
    graphs: Sequence[GraphTensors], *, cutoff: int, device: torch.device | str = "cpu"
) -> GraphBatch:
    """Lay graphs beside each other.

    Args:
        graphs: At least one.
        cutoff: Length of the longest path that is a virtual edge.
        device: Where the tensors go.

    Raises:
        ValueError: No graphs.
    """
    if not graphs:
        raise ValueError("a batch of graphs has at least one")
    count = sum(len(each.graph) for each in graphs)
    direct, virtual = (np.zeros((count, count), dtype=np.float32) for _ in range(2))
    start = 0
    for each in graphs:
        place = slice(start, start + len(each.graph))
        paths = each.paths
        near = (paths != NO_PATH) & (paths <= cutoff)
        direct[place, place] = paths == 1
        virtual[place, place] = np.divide(1, paths, out=np.zeros(paths.shape, np.float32), where=near)
        start = place.stop
    known = np.concatenate([each.levels for each in graphs])
    return GraphBatch(
        graphs=tuple(each.graph for each in graphs),
        kinds=torch.cat([each.rows[0] for each in graphs]).to(device),
        shapes=torch.cat([each.rows[1] for each in graphs]).to(device),
        levels=tuple(
            torch.from_numpy(np.flatnonzero(known == level)).to(device) for level in range(known.max() + 1)
        ),
        direct=torch.from_numpy(direct).to(device),
        virtual=torch.from_numpy(virtual).to(device),
    )
