"""A network that runs its graph, with torch's own layers: it trains, converts and is priced like any model.

A hypernetwork's weights are put in without a copy: `run` calls the network with other tensors in the place of its
parameters, so that gradients reach them. A network that only ever runs so may lie on the meta device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.ghn.graph import NetworkGraph, Node


class Bias(nn.Module):
    """The bias of a linear layer, a node of its own as the hypernetwork predicts it by itself.

    Args:
        features: Its length.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """[N, features] plus the bias."""
        return x + self.bias


class GraphNetwork(nn.Module):
    """A network of a graph.

    Args:
        graph: The graph.
        tracks_statistics: Whether batch-norms keep running statistics for evaluation mode; without, they take those
            of the batch in either mode.
    """

    def __init__(self, graph: NetworkGraph, *, tracks_statistics: bool = True) -> None:
        super().__init__()
        self.graph = graph
        made = {node.name: _module(node, tracks_statistics) for node in graph.nodes}
        self.layers = nn.ModuleDict({name: module for name, module in made.items() if module is not None})

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, classes]."""
        values: list[Tensor] = []
        for node in self.graph.nodes:
            inputs = [values[each] for each in node.inputs] or [images]
            values.append(self._value(node, inputs))
        return values[-1]

    def _value(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self.layers:
            return self.layers[node.name](F.relu(inputs[0]) if node.relu else inputs[0])
        match node.primitive:
            case "sum":
                total = inputs[0]
                for each in inputs[1:]:
                    total = total + each
                return total
            case "concat":
                return torch.cat(inputs, dim=1)
            case "global_avg":
                return inputs[0].mean(dim=(2, 3))
            case _:
                return inputs[0]


def _module(node: Node, tracks_statistics: bool) -> nn.Module | None:
    """The layer of a node; None for what is a function without parameters."""
    match node.primitive:
        case "batch_norm":
            assert node.shape is not None
            return nn.BatchNorm2d(node.shape[0], track_running_stats=tracks_statistics)
        case "linear":
            assert node.shape is not None
            return nn.Linear(node.shape[1], node.shape[0], bias=False)
        case "bias":
            assert node.shape is not None
            return Bias(node.shape[0])
        case "max_pool":
            return nn.MaxPool2d(node.kernel, node.stride[0], node.kernel // 2)
        case "avg_pool":
            return nn.AvgPool2d(node.kernel, node.stride[0], node.kernel // 2, count_include_pad=False)
        case _:
            return None if node.shape is None else _convolution(node, node.shape)


def _convolution(node: Node, shape: tuple[int, int, int, int]) -> nn.Conv2d:
    out_channels, in_channels, *kernel = shape
    return nn.Conv2d(
        in_channels * node.groups,
        out_channels,
        (kernel[0], kernel[1]),
        stride=node.stride,
        padding=(node.dilation * (kernel[0] // 2), node.dilation * (kernel[1] // 2)),
        dilation=node.dilation,
        groups=node.groups,
        bias=False,
    )


def run(network: nn.Module, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """The logits of a network with other tensors in the place of its parameters.

    Args:
        network: A `GraphNetwork`, converted or not.
        parameters: All of its parameters, by name.
        images: A batch [N, C, H, W].
    """
    return torch.func.functional_call(network, dict(parameters), (images,), strict=True)


def with_parameters(graph: NetworkGraph, parameters: Mapping[str, Tensor]) -> GraphNetwork:
    """A network of its own with copies of predicted parameters, and fresh running statistics.

    Args:
        graph: The graph.
        parameters: All of its parameters, by name.

    Raises:
        KeyError: A parameter is missing.
    """
    network = GraphNetwork(graph)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(parameters[name])
    return network.to(next(iter(parameters.values())).device)


def he_initialized(graph: NetworkGraph, seed: int) -> GraphNetwork:
    """A network with random weights: He et al., "Delving Deep into Rectifiers", ICCV 2015, by fan-in.

    Args:
        graph: The graph.
        seed: Seed of the weights; torch's global generator is left as it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GraphNetwork(graph)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def meta_network(graph: NetworkGraph) -> GraphNetwork:
    """A network without memory for its parameters, to be run with others in their place."""
    with torch.device("meta"):
        return GraphNetwork(graph, tracks_statistics=False)
