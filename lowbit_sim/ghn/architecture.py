"""An architecture of the design space: a stem, a stack of cells, a linear classifier, as a value.

A cell is a directed acyclic graph (DARTS: Liu et al., ICLR 2019): its states are what the two cells before it put
out, and then its nodes; a node sums its edges, each an operator on an earlier state; the nodes' results, laid end to
end along the channels, are the cell's. Every architecture has two kinds of cells: reduction cells, which halve the
image and multiply the channels, stand at a third and at two thirds of the depth, and normal cells everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.suggest import unknown

#: The states of a cell that are there before its first node: the cell before the last one, and the last one.
CELL_INPUTS = 2
BEFORE_LAST, LAST = range(CELL_INPUTS)

#: The operators that an edge may be, in the order in which they are drawn. A number is the kernel's size.
#:
#: conv: a convolution; sep_conv: depthwise, then 1x1; dil_conv: the same with dilation 2; factor_conv: 1xk, then kx1;
#: group_conv: a convolution in groups of channels; pools: 3x3; skip: the state as it is (in a reduction, a 1x1
#: convolution).
OPERATORS = (
    "conv_1x1",
    "conv_3x3",
    "conv_5x5",
    "conv_7x7",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "factor_conv_3",
    "factor_conv_5",
    "factor_conv_7",
    "group_conv_3x3",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip",
)


@dataclass(frozen=True)
class Edge:
    """An operator on a state of its cell.

    Args:
        operator: One of `OPERATORS`.
        source: The state's number: 0 and 1 are the cells before, 2 the first node.

    Raises:
        ValueError: An unknown operator.
    """

    operator: str
    source: int

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise ValueError(unknown("operator", self.operator, OPERATORS))


@dataclass(frozen=True)
class Cell:
    """A kind of cell.

    Args:
        nodes: The edges of each node.

    Raises:
        ValueError: No nodes, a node without edges, an edge from a later state, or no edge from the last cell, so
            that this one would cut the network in two.
    """

    nodes: tuple[tuple[Edge, ...], ...]

    def __post_init__(self) -> None:
        if not self.nodes or not all(self.nodes):
            raise ValueError(f"a cell has nodes and every node edges, got {self.nodes}")
        for number, edges in enumerate(self.nodes):
            for edge in edges:
                if not 0 <= edge.source < CELL_INPUTS + number:
                    raise ValueError(
                        f"node {number} reads state {edge.source}: the states before it are 0 to "
                        f"{CELL_INPUTS + number - 1}"
                    )
        if LAST not in self.sources:
            raise ValueError(
                "no edge of the cell reads state 1, the last cell: the cells before it would be dead"
            )

    @property
    def sources(self) -> frozenset[int]:
        """The states that are read."""
        return frozenset(edge.source for edges in self.nodes for edge in edges)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network without its weights, its image size and its number of classes.

    Args:
        stem_kernel: Kernel of the first convolution, odd.
        channels: Channels of the stem and of a node of the first cells.
        channel_multiplier: By which a reduction multiplies a node's channels.
        layers: Number of cells.
        normal, reduction: The two kinds of cells.

    Raises:
        ValueError: A size that is not positive, or an even kernel.
    """

    stem_kernel: int
    channels: int
    channel_multiplier: int
    layers: int
    normal: Cell
    reduction: Cell

    def __post_init__(self) -> None:
        for name in ("channels", "channel_multiplier", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.stem_kernel < 1 or self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel must be odd and positive, got {self.stem_kernel}")

    @property
    def reductions(self) -> frozenset[int]:
        """Numbers of the cells that are reductions; the first cell is none."""
        return frozenset({self.layers // 3, 2 * self.layers // 3} - {0})

    def cell(self, layer: int) -> Cell:
        """The kind of a cell."""
        return self.reduction if layer in self.reductions else self.normal
