"""Twins of Hugging Face layers that are no subclasses of torch's; transformers itself is not imported."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lowbit_sim.nn.dynamic import DynamicTwin
from lowbit_sim.nn.emulation import eager, next_call
from lowbit_sim.ops.linear import linear


class Conv1D(DynamicTwin):
    """`transformers.pytorch_utils.Conv1D` (GPT-2's linear layer, y = x w + b with w [I, O]) with emulated GEMMs.

    Quantisers see w transposed, [O, I], as those of a linear layer do.
    """

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]; see `ops.linear`."""
        return eager(_conv1d, self, x)


def _conv1d(layer: Any, x: Tensor) -> Tensor:
    return linear(x, layer.weight.t(), layer.bias, layer.emulation.op_spec, next_call(layer))
