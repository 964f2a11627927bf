"""Dropout of torch's, with its random numbers and its mask on record.

| pass     | reads      | writes | random bits                | kept              |
|----------|------------|--------|----------------------------|-------------------|
| forward  | x          | y      | a number for each decision | a bit for each    |
| backward | g and mask | grad x |                            |                   |

torch compares a uniform float32 with the share for each element, or for each channel of a sample, and its generators
give 32 random bits for one. (A share in steps of 1/256 would take 8.)
"""

from __future__ import annotations

import math
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.ops.stored import memory_bytes
from lowbit_sim.trace import VectorEvent, emit, recording

#: Random bits of one decision.
DECISION_BITS = 32

#: torch's functions with a decision for each element, and those with one for each channel of a sample.
OF_ELEMENTS = ("dropout", "dropout_", "alpha_dropout", "alpha_dropout_")
OF_CHANNELS = ("dropout1d", "dropout2d", "dropout3d", "feature_dropout", "feature_alpha_dropout")


def drawn_bits(name: str, result: Tensor) -> int:
    """Random bits that a function of torch draws for its result; 0 for one that is no dropout."""
    if name in OF_ELEMENTS:
        return result.numel() * DECISION_BITS
    return math.prod(result.shape[:2]) * DECISION_BITS if name in OF_CHANNELS else 0


@bills_itself
def dropout(x: Tensor, share: float, layer: str) -> Tensor:
    """`torch.nn.functional.dropout` in training, put on record.

    Args:
        x: float32.
        share: Share of the elements that become 0; with 0 nothing happens.
        layer: Module path.
    """
    if not share:
        return x
    y = F.dropout(x, share)
    if recording():
        _bill(x, y, layer)
    return y


def _bill(x: Tensor, y: Tensor, layer: str) -> None:
    event = partial(VectorEvent, kind="activation", elements=y.numel(), layer=layer)
    size, mask = y.numel() * FLOAT_BYTES, math.ceil(y.numel() / 8)
    needed = y.requires_grad
    emit(
        event(
            read_bytes=memory_bytes(x),
            write_bytes=size,
            random_bits=drawn_bits("dropout", y),
            kept_bytes=mask if needed else 0,
            keeps="marks" if needed else "",
        )
    )
    if needed:
        y.register_hook(lambda g: emit(event(read_bytes=memory_bytes(g) + mask, write_bytes=size)))
