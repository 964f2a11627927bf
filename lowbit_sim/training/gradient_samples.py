"""Samples of a model's neural gradients, as gradient quantisers see them: the gradients of the layers' outputs.

Each is divided by its largest magnitude, as a scale per tensor does, so that a codebook can be fitted to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

#: The layers whose output gradients enter backward GEMMs; emulated twins are subclasses of them.
LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(eq=False)
class GradientSamples:
    """What has been collected.

    Attributes:
        by_layer: For each layer's path the samples of its gradients, float32 vectors of values from -1 to 1, one for
            each backward pass.
    """

    by_layer: dict[str, list[Tensor]] = field(default_factory=dict)

    def values(self) -> Tensor:
        """The samples of all layers together, float32 [n].

        Raises:
            ValueError: There are none.
        """
        found = [sample for samples in self.by_layer.values() for sample in samples]
        if not found:
            raise ValueError("no gradients were collected: run a backward pass inside collected_gradients")
        return torch.cat(found)


@contextmanager
def collected_gradients(
    model: nn.Module, *, every: int = 1, per_tensor: int = 1024
) -> Iterator[GradientSamples]:
    """Collect samples of the output gradients of linear and convolutional layers, native or emulated.

    Args:
        model: The model, whose forward and backward passes run inside the `with` block.
        every: Collect at every so many forward passes of a layer, from the first one on.
        per_tensor: At most so many elements of a tensor: evenly spaced ones, and the one of largest magnitude.

    Raises:
        ValueError: A number below 1, or a model without such layers.
    """
    for name, value in (("every", every), ("per_tensor", per_tensor)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    layers = {path: module for path, module in model.named_modules() if isinstance(module, LAYERS)}
    if not layers:
        raise ValueError("the model has no linear or convolutional layer")
    samples = GradientSamples({path: [] for path in layers})
    handles = [
        module.register_forward_hook(_hook(samples.by_layer[path], every, per_tensor))
        for path, module in layers.items()
    ]
    try:
        yield samples
    finally:
        for handle in handles:
            handle.remove()


def _hook(found: list[Tensor], every: int, per_tensor: int) -> Callable[..., None]:
    passes = 0

    # A hook of the tensor, not of the module: a module's can't stand before an activation in place.
    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal passes
        if output.requires_grad:
            if passes % every == 0:
                output.register_hook(partial(_keep, found, per_tensor))
            passes += 1

    return watch


def _keep(found: list[Tensor], per_tensor: int, gradient: Tensor) -> None:
    flat = gradient.detach().flatten().float()
    largest = flat.abs().max() if flat.numel() else torch.zeros(())
    if 0 < largest < torch.inf:
        spaced = flat[:: -(-flat.numel() // per_tensor)]
        top = flat[flat.abs().argmax()].reshape(1)
        found.append(torch.cat([spaced, top]) / largest)
