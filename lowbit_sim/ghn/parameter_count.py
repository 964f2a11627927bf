"""The number of parameters of an architecture's network, without building its graph: to draw from large spaces.

    edge of C channels          parameters, batch-norm's 2 C included
    conv, k x k                 C C k k + 2 C            sep_conv, dil_conv     C k k + C C + 2 C
    group_conv, k x k           C (C / g) k k + 2 C      factor_conv            2 C C k + 2 C
    skip in a reduction         C C + 2 C                pools, other skips     0

`graph_builder` is the definition: for every architecture this is `build_graph(...).parameters`.
"""

from __future__ import annotations

import math

from lowbit_sim.ghn.architecture import CELL_INPUTS, Architecture, Cell
from lowbit_sim.ghn.graph_builder import GROUPS


def count_parameters(architecture: Architecture, in_channels: int, classes: int) -> int:
    """How many numbers the network's parameters have.

    Args:
        architecture: The architecture.
        in_channels: Channels of an image.
        classes: Number of logits.
    """
    channels = architecture.channels
    total = in_channels * channels * architecture.stem_kernel**2 + 2 * channels
    before = last = channels
    for layer in range(architecture.layers):
        reduces = layer in architecture.reductions
        channels *= architecture.channel_multiplier if reduces else 1
        cell = architecture.cell(layer)
        total += sum(
            (before, last)[source] * channels + 2 * channels for source in cell.sources if source < 2
        )
        total += _edges(cell, channels, reduces)
        before, last = last, len(cell.nodes) * channels
    return total + classes * (last + 1)


def _edges(cell: Cell, channels: int, reduces: bool) -> int:
    """Of all edges of a cell."""
    return sum(
        _edge(edge.operator, channels, reduces and edge.source < CELL_INPUTS)
        for edges in cell.nodes
        for edge in edges
    )


def _edge(operator: str, channels: int, strided: bool) -> int:
    kind, _, size = operator.rpartition("_")
    square, norm = channels * channels, 2 * channels
    match kind:
        case "max_pool" | "avg_pool":
            return 0
        case "conv":
            return square * int(size[0]) ** 2 + norm
        case "sep_conv" | "dil_conv":
            return channels * int(size[0]) ** 2 + square + norm
        case "factor_conv":
            return 2 * square * int(size) + norm
        case "group_conv":
            return square // math.gcd(channels, GROUPS) * int(size[0]) ** 2 + norm
        case _:  # skip
            return square + norm if strided else 0
