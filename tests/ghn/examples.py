"""What the tests of graph hypernetworks share: small spaces, sizes, images and a network that has every operator."""

import torch

from lowbit_sim.ghn import (
    OPERATORS,
    Architecture,
    Cell,
    DesignSpace,
    Edge,
    GraphHypernetwork,
    HypernetworkSizes,
    NetworkGraph,
    TrainingSplit,
    build_graph,
    build_hypernetwork,
)
from lowbit_sim.ghn.batch import GraphBatch, GraphTensors, graph_batch
from lowbit_sim.training.examples import Examples

CLASSES = 4

SIZES = HypernetworkSizes(hidden=8, inner=(8, 12), channels=4, kernel=7)

SPACE = DesignSpace(
    layers=(1, 3), nodes=(1, 2), channels=(4, 6), stem_kernels=(3,), channel_multipliers=(1, 2)
)

SPLIT = TrainingSplit(space=SPACE, size=12)


def every_operator() -> Architecture:
    """Two cells, of which the second is a reduction; each has all operators."""
    nodes = [
        (Edge(first, 1), Edge(second, number % (2 + number)))
        for number, (first, second) in enumerate(zip(OPERATORS[::2], OPERATORS[1::2], strict=True))
    ]
    cell = Cell(tuple(nodes))
    return Architecture(
        stem_kernel=3, channels=4, channel_multiplier=2, layers=2, normal=cell, reduction=cell
    )


def graph(architecture: Architecture | None = None) -> NetworkGraph:
    return build_graph(architecture or every_operator(), 1, CLASSES)


def graphs(count: int = 3) -> list[NetworkGraph]:
    return [graph(SPLIT[number]) for number in range(count)]


def hypernetwork(sizes: HypernetworkSizes = SIZES, seed: int = 0) -> GraphHypernetwork:
    return build_hypernetwork(sizes, CLASSES, seed=seed)


def batch_of(*given: NetworkGraph, cutoff: int = SIZES.cutoff) -> GraphBatch:
    return graph_batch([GraphTensors(each, CLASSES) for each in given], cutoff=cutoff)


def images(count: int = 24, seed: int = 0) -> Examples:
    """Noise whose class can be seen: a brighter quarter."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    inputs = torch.randn(count, 1, 8, 8, generator=generator)
    for number, target in enumerate(targets.tolist()):
        inputs[number, :, 2 * target : 2 * target + 2] += 3
    return Examples(inputs=inputs, targets=targets)
