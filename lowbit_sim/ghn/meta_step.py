"""One step of a hypernetwork's training: its loss and gradient over several networks on the same images.

    L(theta) = mean over the meta-batch of CE(net_i(x; w_i), y)     w_i = GHN_theta(graph_i), quantised as they train

The gradient is taken in two parts that the chain rule joins exactly: each network by itself, forward and backward,
for dL/dw_i, and then the hypernetwork once for all of them with these as the gradients of its outputs. So only one
network's activations are held at a time, and the costs of networks and hypernetwork can be told apart.

Source: GHN-2 (Knyazev et al. 2021): the mean loss of a meta-batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.ghn.batch import GraphBatch
from lowbit_sim.ghn.hypernetwork import GraphHypernetwork
from lowbit_sim.ghn.network import run
from lowbit_sim.ghn.strategies import PreparedNetwork
from lowbit_sim.trace import VectorEvent, emit, recording
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.metagrad.billing import hypernetwork_events
from lowbit_sim.training.native_events import native_events


class LossNotFiniteError(ArithmeticError):
    """A network's loss is infinite or not a number."""


@dataclass(frozen=True, kw_only=True)
class MetaLoss:
    """What a step found.

    Attributes:
        loss: Mean over the networks of their mean losses.
        correct: Images that the networks had right, of all of them together.
        images: How many there were: the batch, once for each network.
    """

    loss: float
    correct: int
    images: int


def meta_gradients(
    hypernetwork: GraphHypernetwork,
    networks: Sequence[PreparedNetwork],
    graphs: GraphBatch,
    batch: Examples,
    *,
    step: int = 0,
) -> MetaLoss:
    """Add the gradient of the mean loss to the hypernetwork's parameters.

    Args:
        hypernetwork: The hypernetwork.
        networks: The networks, prepared for their strategy.
        graphs: Their graphs, in the same order.
        batch: The images that all of them see.
        step: The step's number, which addresses random bits of emulated layers.

    Raises:
        LossNotFiniteError: A loss is not finite.
        NotANumberError: A NaN reaches a quantiser.
    """
    with hypernetwork_events(hypernetwork):
        predicted = hypernetwork(graphs)
    total, correct = 0.0, 0
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for number, (network, parameters) in enumerate(zip(networks, predicted, strict=True)):
        network.at_step(step * len(networks) + number)
        loss, right, found = _network_gradients(network, parameters, batch, 1 / len(networks))
        total, correct = total + loss / len(networks), correct + right
        outputs += parameters.values()
        gradients += found
    with hypernetwork_events(hypernetwork):
        torch.autograd.backward(outputs, gradients)
    return MetaLoss(loss=total, correct=correct, images=len(networks) * len(batch))


def _network_gradients(
    network: PreparedNetwork, parameters: Mapping[str, Tensor], batch: Examples, share: float
) -> tuple[float, int, list[Tensor]]:
    """A network's loss, how many images it has right, and `share` of the gradient at each parameter."""
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with _network_events(network.module):
        logits = run(network.module, network.changed(leaves), batch.inputs)
        loss = F.cross_entropy(logits, batch.targets)
        if not math.isfinite(float(loss.detach())):
            raise LossNotFiniteError(f"a network's training loss is {float(loss.detach())}")
        _bill_loss(logits)
        found = torch.autograd.grad(loss * share, list(leaves.values()))
    right = int((logits.detach().argmax(dim=1) == batch.targets).sum())
    return float(loss.detach()), right, list(found)


@contextmanager
def _network_events(network: nn.Module) -> Iterator[None]:
    """Bill what a network runs natively."""
    if not recording():
        yield
        return
    with native_events(network):
        yield


def _bill_loss(logits: Tensor) -> None:
    """Softmax and cross-entropy, and the gradient from them: a pass over the logits each."""
    if recording():
        size = logits.numel() * logits.element_size()
        for written in (0, size):
            emit(VectorEvent(kind="loss", elements=logits.numel(), read_bytes=size, write_bytes=written))
