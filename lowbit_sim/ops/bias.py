"""The bias of a layer: an addition in float32 after the GEMM, and its gradient, the sum of g over all other axes.

| pass     | elements   | reads | writes             |
|----------|------------|-------|--------------------|
| forward  | those of y | y     | y                  |
| backward | those of g | g     | the bias' gradient |

Reading the bias itself, one number for each channel, is not counted, and nothing is kept for the backward pass.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.ops.stored import Written, memory_bytes, wrote
from lowbit_sim.trace import VectorEvent, emit, recording


def add_bias(y: Tensor, bias: Tensor | None, axes: int, layer: str) -> Tensor:
    """y + bias in float32, put on record; the gradient too, when it arrives.

    Args:
        y: [..., O, *size], float32.
        bias: [O], or None for y as it is.
        axes: Number of the axes after O.
        layer: Module path.
    """
    if bias is None:
        return y
    added = y + bias.to(torch.float32).reshape(-1, *(1,) * axes)
    if recording():
        _bill(added, bias, layer)
    return added


def _bill(added: Tensor, bias: Tensor, layer: str) -> None:
    elements = added.numel()
    addition = _addition(elements, elements * FLOAT_BYTES, elements * FLOAT_BYTES, layer)
    forward = replace(addition, parameter="bias")
    emit(forward)
    wrote(Written(forward), added)
    if added.requires_grad and bias.requires_grad:
        size = bias.numel() * FLOAT_BYTES
        added.register_hook(lambda g: emit(_addition(elements, memory_bytes(g), size, layer)))


def _addition(elements: int, read: int, written: int, layer: str) -> VectorEvent:
    return VectorEvent(
        kind="activation", elements=elements, read_bytes=read, write_bytes=written, layer=layer
    )
