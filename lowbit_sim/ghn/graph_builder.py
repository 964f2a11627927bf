"""From an architecture to the graph of its network.

stem conv, batch-norm -> cells -> mean over the image -> linear -> bias

The states that a cell takes from the two cells before it pass ReLU, a 1x1 convolution to the node's channels (with a
stride where the earlier of them is twice as large) and batch-norm first, as in DARTS; so does every operator that
multiplies: ReLU, convolutions, batch-norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lowbit_sim.ghn.architecture import BEFORE_LAST, Architecture, Cell, Edge
from lowbit_sim.ghn.graph import NetworkGraph, Node, Primitive

#: Groups of a grouped convolution, where the channels can be divided by them.
GROUPS = 4


@dataclass(frozen=True)
class _State:
    """A node's result: the node, its channels, and how often the image has been halved."""

    node: int
    channels: int
    halvings: int


def build_graph(architecture: Architecture, in_channels: int, classes: int) -> NetworkGraph:
    """The graph of an architecture's network.

    Args:
        architecture: The architecture.
        in_channels: Channels of an image.
        classes: Number of logits.

    Raises:
        ValueError: A number that is not positive.
    """
    if min(in_channels, classes) < 1:
        raise ValueError(f"in_channels and classes must be positive, got {in_channels} and {classes}")
    return _Builder().whole(architecture, in_channels, classes)


class _Builder:
    """Appends nodes; every method gives the state that its last node makes."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def whole(self, architecture: Architecture, in_channels: int, classes: int) -> NetworkGraph:
        images = self.add("images", "input", [], in_channels, 0)
        kernel, channels = architecture.stem_kernel, architecture.channels
        stem = self.convolution("stem_conv", images, channels, (kernel, kernel), relu=False)
        last = before = self.norm("stem_bn", stem)
        for layer in range(architecture.layers):
            reduces = layer in architecture.reductions
            channels *= architecture.channel_multiplier if reduces else 1
            cell = self.cell(f"cell{layer}", architecture.cell(layer), before, last, channels, reduces)
            before, last = last, cell
        pooled = self.add("pool", "global_avg", [last], last.channels, last.halvings)
        shape = (classes, last.channels, 1, 1)
        logits = self.add("classifier", "linear", [pooled], classes, 0, shape=shape)
        self.add("classifier_bias", "bias", [logits], classes, 0, shape=(classes, 1, 1, 1))
        return NetworkGraph(tuple(self.nodes))

    def cell(
        self, name: str, cell: Cell, before: _State, last: _State, channels: int, reduces: bool
    ) -> _State:
        states: list[_State | None] = []
        for number, given in enumerate((before, last)):
            stride = 2 ** (last.halvings - given.halvings) if number == BEFORE_LAST else 1
            read = number in cell.sources
            states.append(self.preprocessed(f"{name}_in{number}", given, channels, stride) if read else None)
        for number, edges in enumerate(cell.nodes):
            states.append(self.sum(f"{name}_node{number}", edges, states, reduces))
        nodes = [state for state in states[2:] if state is not None]
        if len(nodes) == 1:
            return nodes[0]
        return self.add(
            f"{name}_out", "concat", nodes, sum(node.channels for node in nodes), nodes[0].halvings
        )

    def preprocessed(self, name: str, given: _State, channels: int, stride: int) -> _State:
        return self.norm(f"{name}_bn", self.convolution(f"{name}_conv", given, channels, (1, 1), stride))

    def sum(self, name: str, edges: Sequence[Edge], states: Sequence[_State | None], reduces: bool) -> _State:
        parts: list[_State] = []
        for number, edge in enumerate(edges):
            given = states[edge.source]
            assert given is not None
            # Only what comes from outside of a reduction cell is still large.
            stride = 2 if reduces and edge.source < 2 else 1
            parts.append(self.operator(f"{name}_edge{number}", edge.operator, given, stride))
        if len(parts) == 1:
            return parts[0]
        return self.add(name, "sum", parts, parts[0].channels, parts[0].halvings)

    def operator(self, name: str, operator: str, given: _State, stride: int) -> _State:
        """An edge's nodes."""
        kind, _, size = operator.rpartition("_")
        channels, kernel = given.channels, int(size[0]) if size[0].isdigit() else 1
        match kind:
            case "max_pool" | "avg_pool":
                return self.pool(name, kind, given, kernel, stride)
            case "conv":
                y = self.convolution(f"{name}_conv", given, channels, (kernel, kernel), stride)
            case "sep_conv" | "dil_conv":
                y = self.depthwise(name, given, kernel, stride, dilation=2 if kind == "dil_conv" else 1)
            case "factor_conv":
                y = self.factored(name, given, kernel, stride)
            case "group_conv":
                groups = math.gcd(channels, GROUPS)
                y = self.convolution(
                    f"{name}_conv",
                    given,
                    channels,
                    (kernel, kernel),
                    stride,
                    groups=groups,
                    kind="group_conv",
                )
            case _:  # skip, which `rpartition` leaves in `size`
                if stride == 1:
                    return given
                y = self.convolution(f"{name}_conv", given, channels, (1, 1), stride)
        return self.norm(f"{name}_bn", y)

    def depthwise(self, name: str, given: _State, kernel: int, stride: int, dilation: int) -> _State:
        inner = self.convolution(
            f"{name}_depthwise",
            given,
            given.channels,
            (kernel, kernel),
            stride,
            groups=given.channels,
            dilation=dilation,
            kind="dilated_conv" if dilation > 1 else "depthwise_conv",
        )
        return self.convolution(f"{name}_pointwise", inner, given.channels, (1, 1), relu=False)

    def factored(self, name: str, given: _State, kernel: int, stride: int) -> _State:
        row = self.convolution(
            f"{name}_row", given, given.channels, (1, kernel), strides=(1, stride), kind="factor_conv"
        )
        column = self.convolution(
            f"{name}_column",
            row,
            given.channels,
            (kernel, 1),
            strides=(stride, 1),
            kind="factor_conv",
            relu=False,
        )
        halvings = given.halvings + (stride == 2)
        return _State(column.node, column.channels, halvings)

    def pool(self, name: str, kind: Primitive, given: _State, kernel: int, stride: int) -> _State:
        halvings = given.halvings + (stride == 2)
        return self.add(name, kind, [given], given.channels, halvings, stride=(stride, stride), kernel=kernel)

    def convolution(
        self,
        name: str,
        given: _State,
        channels: int,
        kernel: tuple[int, int],
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        strides: tuple[int, int] | None = None,
        kind: Primitive = "conv",
        relu: bool = True,
    ) -> _State:
        return self.add(
            name,
            kind,
            [given],
            channels,
            given.halvings + (stride == 2),
            shape=(channels, given.channels // groups, *kernel),
            stride=strides or (stride, stride),
            groups=groups,
            dilation=dilation,
            relu=relu,
        )

    def norm(self, name: str, given: _State) -> _State:
        shape = (given.channels, 1, 1, 1)
        return self.add(name, "batch_norm", [given], given.channels, given.halvings, shape=shape)

    def add(
        self,
        name: str,
        primitive: Primitive,
        inputs: Sequence[_State],
        channels: int,
        halvings: int,
        **options: Any,
    ) -> _State:
        numbers = tuple(each.node for each in inputs)
        self.nodes.append(Node(name=name, primitive=primitive, inputs=numbers, **options))
        return _State(len(self.nodes) - 1, channels, halvings)
