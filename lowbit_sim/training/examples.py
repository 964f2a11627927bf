"""Labelled examples held in memory, and the order in which training meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Inputs and their classes.

    Args:
        inputs: float32 [B, ...], one example a row.
        targets: int64 [B], class indices.

    Raises:
        ValueError: No examples, or not one target for each input.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.targets.dim() != 1 or len(self.inputs) != len(self.targets):
            raise ValueError(
                f"each input has one target: got inputs {list(self.inputs.shape)} and targets "
                f"{list(self.targets.shape)}"
            )
        if not len(self.inputs):
            raise ValueError(f"there are no examples: inputs have shape {list(self.inputs.shape)}")

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Examples:
        """The same examples on a device; themselves, if they are there."""
        if self.inputs.device == device and self.targets.device == device:
            return self
        return Examples(inputs=self.inputs.to(device), targets=self.targets.to(device))

    def first(self, count: int) -> Examples:
        """The first `count` examples (all, if there are fewer)."""
        return Examples(inputs=self.inputs[:count], targets=self.targets[:count])


def in_order(examples: Examples, batch_size: int) -> Iterator[Examples]:
    """Batches in stored order; the last one may be smaller."""
    for start in range(0, len(examples), batch_size):
        stop = start + batch_size
        yield Examples(inputs=examples.inputs[start:stop], targets=examples.targets[start:stop])


def shuffled(examples: Examples, batch_size: int, generator: torch.Generator) -> Iterator[Examples]:
    """Batches in an order drawn from `generator` alone; the last one may be smaller."""
    order = torch.randperm(len(examples), generator=generator)
    for indices in order.split(batch_size):
        yield Examples(inputs=examples.inputs[indices], targets=examples.targets[indices])
