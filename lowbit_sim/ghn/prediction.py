"""Parameters for networks that a hypernetwork has not met."""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.ghn.batch import GraphTensors, graph_batch
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.hypernetwork import GraphHypernetwork
from lowbit_sim.training.device import device_of


@torch.no_grad()
def predict(hypernetwork: GraphHypernetwork, graph: NetworkGraph) -> dict[str, Tensor]:
    """All parameters of one network by name, on the hypernetwork's device.

    Args:
        hypernetwork: The hypernetwork.
        graph: The network's graph, for the hypernetwork's number of classes.

    Raises:
        ValueError: Another number of classes, or a kernel that the hypernetwork does not make.
    """
    shape = graph.nodes[-1].shape
    if shape is None or shape[0] != hypernetwork.classes:
        raise ValueError(
            f"the hypernetwork is for {hypernetwork.classes} classes, but the network ends in "
            f"{graph.nodes[-1].name!r} of shape {shape}"
        )
    tensors = GraphTensors(graph, hypernetwork.classes)
    batch = graph_batch([tensors], cutoff=hypernetwork.sizes.cutoff, device=device_of(hypernetwork))
    return hypernetwork(batch)[0]
