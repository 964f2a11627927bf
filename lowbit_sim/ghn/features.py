"""Node features: what a node is and which shape its weight has, as learned vectors.

    h_v = [ E_primitive(v) ] + [ E_C(C_out) | E_C(C_in) | E_K(kernel height) | E_K(kernel width) ]

with four parts of a quarter of the features each. Sizes are looked up in tables of the sizes that networks have, an
unlisted one as the nearest that is listed; what has no parameters has the row for "none" in each part.

Source: GHN-2 (Knyazev et al. 2021), features and tables as in its public code (ppuda).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lowbit_sim.ghn.graph import PRIMITIVES, NetworkGraph

#: Sizes of kernels that have a row.
KERNELS = (1, 3, 5, 7, 9, 11, 14, 16)

#: The row of what has no shape.
NONE = 0

#: Parts of a shape: output channels, input channels, kernel height and width.
PARTS = 4


def channel_table(classes: int) -> tuple[int, ...]:
    """Numbers of channels that have a row."""
    steps = {*range(8, 64, 8), *range(64, 4096, 16), *range(4096, 8193, 32)}
    return tuple(sorted({1, 3, classes} | steps))


def row_of(size: int, table: Sequence[int]) -> int:
    """The row of the nearest size, counted from 1; of two as near, the smaller one's."""
    place = bisect_left(table, size)
    near = [i for i in (place - 1, place) if 0 <= i < len(table)]
    return 1 + min(near, key=lambda i: (abs(table[i] - size), i))


def node_rows(graph: NetworkGraph, classes: int) -> tuple[Tensor, Tensor]:
    """Which rows of the tables each node has.

    Args:
        graph: The network's.
        classes: Number of classes, which has a row.

    Returns:
        Primitives int64 [N] and shapes int64 [N, 4].
    """
    channels = channel_table(classes)
    kinds = torch.tensor([PRIMITIVES.index(node.primitive) for node in graph.nodes])
    shapes = torch.full((len(graph), PARTS), NONE)
    for number, node in enumerate(graph.nodes):
        if node.shape is not None:
            tables = (channels, channels, KERNELS, KERNELS)
            shapes[number] = torch.tensor([row_of(s, t) for s, t in zip(node.shape, tables, strict=True)])
    return kinds, shapes


class NodeFeatures(nn.Module):
    """The table's vectors.

    Args:
        hidden: Features of a node, a multiple of 4.
        classes: Number of classes.
    """

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.primitives = nn.Embedding(len(PRIMITIVES), hidden)
        self.channels = nn.Embedding(1 + len(channel_table(classes)), hidden // PARTS)
        self.kernels = nn.Embedding(1 + len(KERNELS), hidden // PARTS)

    def forward(self, kinds: Tensor, shapes: Tensor) -> Tensor:
        """Rows [N] and [N, 4] to features [N, hidden]."""
        channels, kernels = self.channels(shapes[:, :2]), self.kernels(shapes[:, 2:])  # [N, 2, hidden / 4]
        return self.primitives(kinds) + torch.cat([channels, kernels], dim=1).flatten(1)
