"""The accuracy of a network with predicted parameters, its layers emulated, its batch-norms by one of two statistics.

    batch           those of the test batch itself, as GHN-2 evaluates; predicted networks have no running ones
    recalibrated    fixed: the mean over some training batches, taken at the same precision, as a deployed network has

Statistics of the batch hide much of the error that quantisation makes in the scale of activations; both are reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import nn

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ghn.network import GraphNetwork
from lowbit_sim.ghn.precision import Precision, rules
from lowbit_sim.nn.convert import convert
from lowbit_sim.training.device import device_of
from lowbit_sim.training.examples import Examples

Statistics = Literal["batch", "recalibrated"]

STATISTICS: tuple[Statistics, ...] = get_args(Statistics)

#: Images of an evaluation's batch.
BATCH_SIZE = 64


def at_precision(
    network: GraphNetwork, precision: Precision, *, mac: MacUnit | FloatMacUnit = MacUnit()
) -> nn.Module:
    """A network with its layers emulated at a precision, in place; as it is for W32A32.

    Args:
        network: A native network.
        precision: Bits of weights and activations.
        mac: The accumulator.
    """
    return convert(network, rules(network.graph, precision, mac=mac))


def accuracy(
    model: nn.Module, test: Examples, *, statistics: Statistics, calibration: Sequence[Examples] = ()
) -> float:
    """The share of test images that a model has right; its modes and running statistics are put back.

    Args:
        model: The model.
        test: The images, in nearly equal batches of at most 64.
        statistics: What the batch-norms go by.
        calibration: For recalibrated ones, the training batches that give them.

    Raises:
        ValueError: Recalibrated statistics without batches.
    """
    if statistics == "recalibrated" and not calibration:
        raise ValueError("recalibrated statistics need training batches: pass calibration")
    device = device_of(model)
    with torch.no_grad(), _evaluating(model) as norms:
        if statistics == "recalibrated":
            _recalibrate(model, norms, [each.to(device) for each in calibration])
        right = 0
        for batch in near_equal(test, BATCH_SIZE):
            each = batch.to(device)
            right += int((model(each.inputs).argmax(dim=1) == each.targets).sum())
    return right / len(test)


def near_equal(examples: Examples, size: int) -> Iterator[Examples]:
    """Batches in stored order of at most `size`, whose sizes differ by one at most: none is a batch of few."""
    batches = -(-len(examples) // size)
    inputs, targets = examples.inputs.tensor_split(batches), examples.targets.tensor_split(batches)
    for each in zip(inputs, targets, strict=True):
        yield Examples(inputs=each[0], targets=each[1])


def _recalibrate(model: nn.Module, norms: list[nn.BatchNorm2d], batches: Sequence[Examples]) -> None:
    """Let the norms average the statistics of batches, and fix them."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which makes it the mean over the batches
    for batch in batches:
        model(batch.inputs)
    for norm in norms:
        norm.eval()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[list[nn.BatchNorm2d]]:
    """Evaluation mode but for the batch-norms, which go by their batch and may change; all of it put back."""
    modes = {module: module.training for module in model.modules()}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [({k: v.clone() for k, v in norm.state_dict().items()}, norm.momentum) for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
    try:
        yield norms
    finally:
        for norm, (state, momentum) in zip(norms, kept, strict=True):
            norm.load_state_dict(state)
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
