"""The training step of `test_training_step.py` in other people's emulation of INT8, after seeing that they quantise.

microxcaling is not on the package index, and torchao's INT8 training replaces linear layers alone: neither has a row.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.peers import brevitas_int8, qpytorch_fixed8
from benchmarks.test_training_step import WORK, beside_native, step_of, vgg_small

#: Name: the module that must be there, how the model is converted, and which operands of a convolution it quantises.
PEERS = {
    "Brevitas INT8 (gradients float32)": ("brevitas.nn", brevitas_int8, {"input", "weight"}),
    "QPyTorch fixed(8, 6)": ("qtorch.quant", qpytorch_fixed8, {"input", "weight", "grad_output"}),
}


class DistinctValues(TorchDispatchMode):
    """Notes how many distinct values the operands of the convolutions have, the largest number of all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.most: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            for name, operand in zip(("grad_output", "input", "weight"), args, strict=False):
                self.most[name] = max(self.most.get(name, 0), operand.unique().numel())
        return func(*args, **(kwargs or {}))


def quantised_operands(model: nn.Module) -> set[str]:
    """The operands that have no more values than 8 bits, in the backward pass of a step."""
    with DistinctValues() as found:
        F.cross_entropy(model(torch.randn(8, 3, 32, 32)), torch.arange(8)).backward()
    return {name for name, values in found.most.items() if values <= 256}


@pytest.mark.parametrize("name", PEERS)
def test_training_step(benchmark, peer, name):
    module, convert, operands = PEERS[name]
    peer(module, work=WORK.format("small VGG"), implementation=name)
    assert quantised_operands(vgg_small()) == set()
    assert quantised_operands(convert(vgg_small())) == operands
    run = step_of(convert(vgg_small()))
    losses = [run() for _ in range(4)]
    assert all(map(math.isfinite, losses))
    beside_native(benchmark, "small VGG", name, run)
