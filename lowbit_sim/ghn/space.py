"""A design space of convolutional networks, and the splits of it that a hypernetwork learns from and is tested on.

The architecture of number i of a split depends on (split, seed, i) alone, so that a space of a million networks needs
no memory. Held-out splits leave out the networks that the training split holds.

The space follows that of ConvNets-250K in kind (arXiv 2208.12489: the convolutional operators of DeepNets-1M,
Knyazev et al. 2021); its sizes, its operators in detail and the distribution over them are ours.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

from lowbit_sim.ghn.architecture import CELL_INPUTS, LAST, OPERATORS, Architecture, Cell, Edge
from lowbit_sim.ghn.graph_builder import build_graph
from lowbit_sim.ghn.parameter_count import count_parameters
from lowbit_sim.numerics.suggest import unknown

#: Draws of one architecture, and numbers tried for one that is held out, before a space counts as too small.
_TRIES = 1000

Range = tuple[int, int]

#: Channels of an image and classes, where the networks of a space are compared and counted.
_STANDARD = (3, 10)


@dataclass(frozen=True, kw_only=True)
class DesignSpace:
    """What architectures are drawn from, each field uniformly.

    Args:
        layers: Fewest and most cells.
        nodes: Fewest and most nodes of a cell.
        channels: Channels of the first cells.
        channel_multipliers: By which reductions multiply them.
        stem_kernels: Kernels of the first convolution.
        operators: What an edge may be.
        edges: Edges of a node.
        parameter_limit: The most numbers that a network's parameters have, for images of 3 channels in 10 classes.

    Raises:
        ValueError: An empty choice, a range that ends before it starts, or an unknown operator.
    """

    layers: Range = (4, 18)
    nodes: Range = (1, 4)
    channels: tuple[int, ...] = (32, 48, 64)
    channel_multipliers: tuple[int, ...] = (1, 2)
    stem_kernels: tuple[int, ...] = (3, 5, 7)
    operators: tuple[str, ...] = OPERATORS
    edges: int = 2
    parameter_limit: int = 10_000_000

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) == ():
                raise ValueError(f"{each.name} of a design space is empty: give at least one")
        for name in ("layers", "nodes"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise ValueError(f"{name} goes from at least 1 to no less, got {low} to {high}")
        for operator in self.operators:
            if operator not in OPERATORS:
                raise ValueError(unknown("operator", operator, OPERATORS))
        if self.edges < 1:
            raise ValueError(f"a node has at least one edge, got edges={self.edges}")


def draw_architecture(space: DesignSpace, split: str, number: int, *, seed: int = 0) -> Architecture:
    """The architecture of a number in a split.

    Args:
        space: The space.
        split: The split's name.
        number: At least 0.
        seed: Of the whole space.

    Raises:
        ValueError: A space in which almost no architecture has few enough parameters.
    """
    # A string seeds Python's generator by its SHA-512, the same on any machine and in any version since 3.2.
    draw = random.Random(f"{split}/{seed}/{number}")
    for _ in range(_TRIES):
        found = _drawn(space, draw)
        if count_parameters(found, *_STANDARD) <= space.parameter_limit:
            return found
    raise ValueError(
        f"{_TRIES} architectures of the space have more than {space.parameter_limit} parameters each: raise "
        "parameter_limit, or take fewer layers, nodes or channels"
    )


def _drawn(space: DesignSpace, draw: random.Random) -> Architecture:
    return Architecture(
        stem_kernel=draw.choice(space.stem_kernels),
        channels=draw.choice(space.channels),
        channel_multiplier=draw.choice(space.channel_multipliers),
        layers=draw.randint(*space.layers),
        normal=_cell(space, draw),
        reduction=_cell(space, draw),
    )


def _cell(space: DesignSpace, draw: random.Random) -> Cell:
    nodes = [
        [Edge(draw.choice(space.operators), draw.randrange(CELL_INPUTS + number)) for _ in range(space.edges)]
        for number in range(draw.randint(*space.nodes))
    ]
    # One edge of the first node reads the last cell, so that no cell is cut off from the classifier.
    if all(edge.source != LAST for edges in nodes for edge in edges):
        nodes[0][0] = Edge(nodes[0][0].operator, LAST)
    return Cell(tuple(tuple(edges) for edges in nodes))


@dataclass(frozen=True, kw_only=True)
class TrainingSplit:
    """The architectures that a hypernetwork learns from.

    Args:
        space: Where they are drawn from.
        size: How many.
        seed: Of the space.

    Raises:
        ValueError: No architectures.
    """

    space: DesignSpace
    size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a training split has at least one architecture, got size={self.size}")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> Architecture:
        if not 0 <= number < self.size:
            raise IndexError(f"the split has {self.size} architectures, got number {number}")
        return draw_architecture(self.space, "train", number, seed=self.seed)


def held_out(
    space: DesignSpace, split: str, count: int, training: Sequence[Architecture] | TrainingSplit
) -> list[Architecture]:
    """The first architectures of a split whose networks are neither in the training split nor met before.

    Architectures may differ where their networks don't (in a cell that is not used, in the order of two edges), so
    networks are told apart by what they compute.

    Args:
        space: Where they are drawn from.
        split: The split's name, any but "train".
        count: How many.
        training: What they are not.

    Raises:
        ValueError: The split "train", or a space that has too few others.
    """
    if split == "train":
        raise ValueError("'train' is the split that is learned from: give the held-out one another name")
    seed = training.seed if isinstance(training, TrainingSplit) else 0
    kinds = _kinds_of_split(training) if isinstance(training, TrainingSplit) else _kinds(training)
    seen: set[str] = set()
    found: list[Architecture] = []
    for number in range(count + _TRIES):
        if len(found) == count:
            return found
        candidate = draw_architecture(space, split, number, seed=seed)
        # Few networks of a large split are of the candidate's kind and need a closer look.
        alike = kinds.get(kind(candidate), ())
        known = _fingerprint(candidate)
        if known not in seen and all(known != _fingerprint(training[each]) for each in alike):
            seen.add(known)
            found.append(candidate)
    if len(found) == count:
        return found
    raise ValueError(
        f"split {split!r}: {len(found)} of the {count} networks that were asked for lie outside of the training "
        "split: the space is too small"
    )


def kind(architecture: Architecture) -> Hashable:
    """What two architectures have in common if their networks are the same, and most others have not.

    A skip out of a reduction is a 1x1 convolution; a kind of cell that stands nowhere does not count.
    """
    reduces = {layer in architecture.reductions for layer in range(architecture.layers)}
    return (
        architecture.stem_kernel,
        architecture.channels,
        architecture.channel_multiplier if True in reduces else 1,
        architecture.layers,
        _operators(architecture.normal, strided=False) if False in reduces else None,
        _operators(architecture.reduction, strided=True) if True in reduces else None,
    )


def _operators(cell: Cell, *, strided: bool) -> frozenset[tuple[str, bool]]:
    """The operators in a cell, each with whether it has a stride."""
    places = [(e.operator, strided and e.source < CELL_INPUTS) for edges in cell.nodes for e in edges]
    return frozenset(("conv_1x1", True) if place == ("skip", True) else place for place in places)


@lru_cache(maxsize=4)
def _kinds_of_split(training: TrainingSplit) -> dict[Hashable, list[int]]:
    """`_kinds` of a split, which each held-out split asks for."""
    return _kinds(training)


def _kinds(training: Sequence[Architecture] | TrainingSplit) -> dict[Hashable, list[int]]:
    """The numbers of the architectures of each kind."""
    found: dict[Hashable, list[int]] = {}
    for number in range(len(training)):
        found.setdefault(kind(training[number]), []).append(number)
    return found


def _fingerprint(architecture: Architecture) -> str:
    return build_graph(architecture, *_STANDARD).fingerprint
