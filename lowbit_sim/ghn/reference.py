"""The gated GNN as its formula reads, one node after the other: slow, and what the fast one is tested against."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit_sim.ghn.gnn import GatedGNN


def distances(inputs: Sequence[Sequence[int]], source: int) -> dict[int, int]:
    """Edges of the shortest path from a node to each node that one leads to, by breadth-first search.

    Args:
        inputs: The numbers of the nodes that each node reads.
        source: The node.
    """
    readers = [[v for v, read in enumerate(inputs) if u in read] for u in range(len(inputs))]
    found, queue = {source: 0}, deque([source])
    while queue:
        node = queue.popleft()
        for reader in readers[node]:
            if reader not in found:
                found[reader] = found[node] + 1
                queue.append(reader)
    return found


def gnn_states(gnn: GatedGNN, features: Tensor, inputs: Sequence[Sequence[int]]) -> Tensor:
    """The states [N, hidden] of one graph's nodes; see `gnn`.

    Args:
        gnn: The network, for its MLPs, its GRU and its cut-off.
        features: [N, hidden].
        inputs: The numbers of the nodes that each node reads, all smaller than its own.
    """
    states = list(features)
    count = len(inputs)
    length = {(u, v): s for u in range(count) for v, s in distances(inputs, u).items() if u != v}
    for order, backwards in ((range(count), False), (reversed(range(count)), True)):
        for v in order:
            message = torch.zeros_like(states[v])
            for u in range(count):
                s = length.get((v, u) if backwards else (u, v))
                if s == 1:
                    message = message + gnn.message(states[u])
                if s is not None and s <= gnn.cutoff and gnn.virtual_message is not None:
                    message = message + gnn.virtual_message(states[u]) / s
            states[v] = gnn.update(message[None], states[v][None])[0]
    return torch.stack(states)
