"""The graph of a network: its primitives in topological order, each with what it reads and the shape of its weight.

It is the one description of a network: `network.py` runs it, `features.py` and `gnn.py` read it, and the
hypernetwork's decoder puts out what `parameter_shapes` asks for.

Which primitives there are is that of Knyazev et al. ("Parameter Prediction for Unseen Deep Architectures", NeurIPS
2021) less attention, squeeze-and-excitation and layer-norm, which a convolutional space has not; telling depthwise,
grouped and factored convolutions and the classifier from other convolutions is ours. A ReLU belongs to the
convolution that reads its result and is no node of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from lowbit_sim.numerics.suggest import unknown

Primitive = Literal[
    "input",
    "conv",
    "depthwise_conv",
    "dilated_conv",
    "group_conv",
    "factor_conv",
    "linear",
    "bias",
    "batch_norm",
    "max_pool",
    "avg_pool",
    "sum",
    "concat",
    "global_avg",
]

PRIMITIVES: tuple[Primitive, ...] = get_args(Primitive)

#: Those with a weight of four axes; a linear layer counts as a convolution of 1x1.
CONVOLUTIONS = ("conv", "depthwise_conv", "dilated_conv", "group_conv", "factor_conv", "linear")

#: Those with parameters of one axis.
VECTORS = ("batch_norm", "bias")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A primitive of a network.

    Args:
        name: Unique in the network, and the name of its module.
        primitive: One of `PRIMITIVES`.
        inputs: Numbers of the nodes that it reads, all before it.
        shape: Of its weight: [C_out, C_in / groups, kernel height, kernel width], a vector's [C, 1, 1, 1]; None where
            it has no parameters.
        stride, dilation, groups: Of a convolution or pool.
        kernel: Of a pool.
        relu: Whether it reads the ReLU of its input.

    Raises:
        ValueError: An unknown primitive, or parameters where there are none or none where there are.
    """

    name: str
    primitive: Primitive
    inputs: tuple[int, ...] = ()
    shape: tuple[int, int, int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    dilation: int = 1
    groups: int = 1
    kernel: int = 0
    relu: bool = False

    def __post_init__(self) -> None:
        if self.primitive not in PRIMITIVES:
            raise ValueError(unknown("primitive", self.primitive, PRIMITIVES))
        has_parameters = self.primitive in (*CONVOLUTIONS, *VECTORS)
        if has_parameters != (self.shape is not None):
            raise ValueError(f"node {self.name!r}, a {self.primitive}, has the shape {self.shape}")

    @property
    def path(self) -> str:
        """Path of its module in the network."""
        return f"layers.{self.name}"

    @property
    def fan_in(self) -> int:
        """Products that a result of a convolution or a linear layer sums."""
        assert self.shape is not None
        return math.prod(self.shape[1:])

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its parameters by their names in the network."""
        if self.shape is None:
            return {}
        match self.primitive:
            case "batch_norm":
                return {f"{self.path}.weight": self.shape[:1], f"{self.path}.bias": self.shape[:1]}
            case "bias":
                return {f"{self.path}.bias": self.shape[:1]}
            case "linear":
                return {f"{self.path}.weight": self.shape[:2]}
            case _:
                return {f"{self.path}.weight": self.shape}


@dataclass(frozen=True)
class NetworkGraph:
    """A network's nodes; the last one's result is the logits.

    Args:
        nodes: In topological order.

    Raises:
        ValueError: No nodes, two of one name, or one that reads itself or a later one.
    """

    nodes: tuple[Node, ...]
    _shapes: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("a network has nodes")
        names = [node.name for node in self.nodes]
        if len(set(names)) < len(names):
            raise ValueError(f"two nodes are called {next(n for n in names if names.count(n) > 1)!r}")
        for number, node in enumerate(self.nodes):
            if not all(0 <= each < number for each in node.inputs):
                raise ValueError(f"node {number}, {node.name!r}, reads {node.inputs}: not all are before it")
        shapes = {name: shape for node in self.nodes for name, shape in node.parameter_shapes().items()}
        object.__setattr__(self, "_shapes", shapes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def parameter_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of all parameters by their names in the network, in its order."""
        return self._shapes

    @property
    def parameters(self) -> int:
        """How many numbers the parameters have."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the network computes, whatever its nodes' names, numbers and the order of its sums.

        A node's is that of its primitive, its sizes and the fingerprints of what it reads; the last node's is the
        network's. Two nodes that are alike in all of this count as one, so some networks that differ have one print.
        """
        found: list[str] = []
        for node in self.nodes:
            read = [found[number] for number in node.inputs]
            parts = [
                node.primitive,
                node.shape,
                node.stride,
                node.dilation,
                node.groups,
                node.kernel,
                node.relu,
            ]
            parts += sorted(read) if node.primitive == "sum" else read
            found.append(hashlib.sha256(repr(parts).encode()).hexdigest())
        return found[-1]

    @property
    def multiplying(self) -> list[Node]:
        """The nodes that multiply matrices; the first reads the images, the last gives the logits."""
        return [node for node in self.nodes if node.primitive in CONVOLUTIONS]
