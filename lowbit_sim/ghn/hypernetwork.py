"""The graph hypernetwork: from the graphs of networks to all their parameters, in one pass.

    features -> gated GNN -> layer-norm -> decoders -> normalisation

Source: Knyazev et al., "Parameter Prediction for Unseen Deep Architectures", NeurIPS 2021 (GHN-2); Zhang et al.,
"Graph HyperNetworks for Neural Architecture Search", ICLR 2019 (GHN).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lowbit_sim.ghn.batch import GraphBatch
from lowbit_sim.ghn.decoder import VectorDecoder, WeightDecoder
from lowbit_sim.ghn.features import PARTS, NodeFeatures
from lowbit_sim.ghn.gnn import GatedGNN
from lowbit_sim.ghn.graph import CONVOLUTIONS, VECTORS, Node
from lowbit_sim.ghn.normalization import norm_scale, normalized_weight, shift


@dataclass(frozen=True, kw_only=True)
class HypernetworkSizes:
    """Sizes of a hypernetwork; the defaults are GHN-2's for CIFAR.

    Args:
        hidden: Features of a node, a multiple of 4.
        inner: Channels between the decoder's layers.
        channels: Channels of the weight that is decoded and cut or repeated.
        kernel: The largest kernel.
        cutoff: Length of the longest virtual edge; 1 for none.
        layer_norm: Whether the states pass a layer-norm before they are decoded.

    Raises:
        ValueError: A size that is not positive, or hidden features that can't be divided into four parts.
    """

    hidden: int = 32
    inner: tuple[int, int] = (128, 256)
    channels: int = 64
    kernel: int = 11
    cutoff: int = 50
    layer_norm: bool = True

    def __post_init__(self) -> None:
        if min(self.hidden, *self.inner, self.channels, self.kernel, self.cutoff) < 1:
            raise ValueError(f"the sizes of a hypernetwork are at least 1, got {self}")
        if self.hidden % PARTS:
            raise ValueError(f"hidden must be a multiple of {PARTS}, got {self.hidden}")


class GraphHypernetwork(nn.Module):
    """See the module.

    Args:
        sizes: Its sizes.
        classes: Number of classes of the networks.
    """

    def __init__(self, sizes: HypernetworkSizes, classes: int) -> None:
        super().__init__()
        self.sizes, self.classes = sizes, classes
        self.features = NodeFeatures(sizes.hidden, classes)
        self.gnn = GatedGNN(sizes.hidden, sizes.cutoff)
        self.norm = nn.LayerNorm(sizes.hidden) if sizes.layer_norm else nn.Identity()
        self.weights = WeightDecoder(sizes.hidden, sizes.inner, sizes.channels, sizes.kernel, classes)
        self.vectors = VectorDecoder(sizes.hidden, sizes.channels, classes)

    def forward(self, batch: GraphBatch) -> list[dict[str, Tensor]]:
        """The parameters of each network by name, each once, in its own order.

        Args:
            batch: The networks' graphs, with the cut-off of this hypernetwork.
        """
        states = self.norm(self.gnn(self.features(batch.kinds, batch.shapes), batch))
        nodes = [node for graph in batch.graphs for node in graph.nodes]
        found = self._weights(states, nodes) | self._vectors(states, nodes)
        predicted, start = [], 0
        for graph in batch.graphs:
            predicted.append(
                {name: tensor for place in range(len(graph)) for name, tensor in found.get(start + place, ())}
            )
            start += len(graph)
        return predicted

    def _weights(self, states: Tensor, nodes: list[Node]) -> dict[int, list[tuple[str, Tensor]]]:
        """Name and value of the weights of convolutions and linear layers, by the node's number."""
        places = _places(nodes, CONVOLUTIONS)
        chosen = [nodes[place] for place in places]
        values = self.weights(_rows(states, places), chosen)
        return {
            place: [(f"{node.path}.weight", normalized_weight(value, node))]
            for place, node, value in zip(places, chosen, values, strict=True)
        }

    def _vectors(self, states: Tensor, nodes: list[Node]) -> dict[int, list[tuple[str, Tensor]]]:
        """Names and values of the parameters of batch-norms and biases, by the node's number."""
        places = _places(nodes, VECTORS)
        chosen = [nodes[place] for place in places]
        values = self.vectors(_rows(states, places), chosen)
        return {
            place: _vector_parameters(node, *value)
            for place, node, value in zip(places, chosen, values, strict=True)
        }


def _vector_parameters(node: Node, scale: Tensor, offset: Tensor) -> list[tuple[str, Tensor]]:
    bias = (f"{node.path}.bias", shift(offset))
    return [bias] if node.primitive == "bias" else [(f"{node.path}.weight", norm_scale(scale)), bias]


def _places(nodes: list[Node], primitives: Iterable[str]) -> list[int]:
    kinds = frozenset(primitives)
    return [place for place, node in enumerate(nodes) if node.primitive in kinds]


def _rows(states: Tensor, places: list[int]) -> Tensor:
    return states.index_select(0, torch.tensor(places, device=states.device))


def build_hypernetwork(sizes: HypernetworkSizes, classes: int, *, seed: int = 0) -> GraphHypernetwork:
    """A hypernetwork with initial weights that depend on `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GraphHypernetwork(sizes, classes)
