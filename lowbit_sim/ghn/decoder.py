"""The decoders: from a node's state to the numbers of its parameters.

    weights   h -> FC -> ReLU -> [c1, s, s] -> the first kernel height x width -> 1x1 conv to c2 -> ReLU
                -> 1x1 conv to c c -> [c, c, height, width] -> the channels that the node has
    classes   the same at 1x1, ReLU, and one more 1x1 conv from the c output channels to the classes
    vectors   h -> FC to 2 d -> ReLU -> FC to 2 c: a scale's c numbers and a shift's

Where a node has more channels than c, its weight repeats: w[c + i] = w[i] along either axis of channels. A
quantisation error repeats with it; with c as large as the widest network nothing does.

The crop comes before the 1x1 convolutions, which have the same result at each position whatever is beside it.

Source: GHN-2 (Knyazev et al. 2021), as in its public code (c1 = 128, c2 = 256, c = 64, s = 11 for CIFAR). The
initial weights, which put out numbers of about unit variance, are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.ghn.graph import Node


def tiled(base: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """A tensor cut to sizes, or repeated to them, along its first axes.

    Args:
        base: [c_0, c_1, ...].
        sizes: Sizes of its first axes.
    """
    repeats = [-(-size // have) for size, have in zip(sizes, base.shape, strict=False)]
    if max(repeats) > 1:
        base = base.repeat(*repeats, *(1,) * (base.ndim - len(sizes)))
    return base[tuple(slice(size) for size in sizes)]


class WeightDecoder(nn.Module):
    """The weights of convolutions and of the classifier.

    Args:
        hidden: Features of a node.
        inner: c1 and c2.
        channels: c.
        kernel: s.
        classes: Number of classes.
    """

    def __init__(self, hidden: int, inner: tuple[int, int], channels: int, kernel: int, classes: int) -> None:
        super().__init__()
        self.inner, self.channels, self.kernel = inner, channels, kernel
        self.spread = nn.Linear(hidden, inner[0] * kernel**2)
        self.widen = nn.Conv2d(inner[0], inner[1], 1)
        self.weights = nn.Conv2d(inner[1], channels**2, 1)
        self.to_classes = nn.Linear(channels, classes)
        _initialize(self)

    def forward(self, states: Tensor, nodes: list[Node]) -> list[Tensor]:
        """The numbers of each node's weight, in the weight's shape.

        Args:
            states: [N, hidden], a row a node.
            nodes: Convolutions and linear layers.

        Raises:
            ValueError: A kernel larger than the decoder's.
        """
        found: dict[int, Tensor] = {}
        for kernel, places in _by_kernel(nodes).items():
            if max(kernel) > self.kernel:
                raise ValueError(
                    f"node {nodes[places[0]].name!r} has a kernel of {kernel[0]}x{kernel[1]}: the decoder makes "
                    f"kernels up to {self.kernel}x{self.kernel}"
                )
            chosen = states.index_select(0, torch.tensor(places, device=states.device))
            for place, base in zip(places, self._bases(chosen, kernel).unbind(), strict=True):
                found[place] = self._of_node(base, nodes[place])
        return [found[place] for place in range(len(nodes))]

    def _bases(self, states: Tensor, kernel: tuple[int, int]) -> Tensor:
        """[N, c, c, height, width]."""
        height, width = kernel
        grid = F.relu(self.spread(states)).reshape(-1, self.inner[0], self.kernel, self.kernel)
        grid = self.weights(F.relu(self.widen(grid[:, :, :height, :width].contiguous())))
        return grid.reshape(-1, self.channels, self.channels, height, width)

    def _of_node(self, base: Tensor, node: Node) -> Tensor:
        assert node.shape is not None
        if node.primitive != "linear":
            return tiled(base, node.shape[:2])
        rows = self.to_classes(F.relu(base[:, :, 0, 0]).mT)  # [c input channels, classes]
        return tiled(rows.mT, node.shape[:2])


class VectorDecoder(nn.Module):
    """The scales and shifts of batch-norms, and the classifier's bias.

    Args:
        hidden: Features of a node.
        channels: c.
        classes: Number of classes.
    """

    def __init__(self, hidden: int, channels: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, 2 * channels)
        )
        self.to_classes = nn.Linear(channels, classes)

    def forward(self, states: Tensor, nodes: list[Node]) -> list[tuple[Tensor, Tensor]]:
        """The numbers of each node's scale and shift; of a bias, the second is what counts.

        Args:
            states: [N, hidden], a row a node.
            nodes: Batch-norms and biases.
        """
        scales, shifts = self.layers(states).chunk(2, dim=1)  # [N, c] each
        return [
            self._of_node(node, scale, shift)
            for node, scale, shift in zip(nodes, scales.unbind(), shifts.unbind(), strict=True)
        ]

    def _of_node(self, node: Node, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        assert node.shape is not None
        if node.primitive == "bias":
            return scale, tiled(self.to_classes(F.relu(shift)), node.shape[:1])
        return tiled(scale, node.shape[:1]), tiled(shift, node.shape[:1])


def _by_kernel(nodes: list[Node]) -> dict[tuple[int, int], list[int]]:
    """Places of the nodes of each kernel's size; a linear layer has a kernel of 1x1."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, node in enumerate(nodes):
        assert node.shape is not None
        places.setdefault(node.shape[2:], []).append(place)
    return places


def _initialize(decoder: WeightDecoder) -> None:
    """He et al.'s weights: unit variance out of states of unit variance."""
    nn.init.kaiming_normal_(decoder.spread.weight, nonlinearity="linear")
    for layer in (decoder.widen, decoder.weights, decoder.to_classes):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    for layer in (decoder.spread, decoder.widen, decoder.weights, decoder.to_classes):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
