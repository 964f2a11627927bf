"""The models that a study or an estimate can name, a file for each family.

Studies train the ones for small images; those for 224x224 images are there to be priced.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models.mobilenet import mobilenet_v2, mobilenet_v2_cifar
from lowbit_sim.study.models.mobilenet_v1 import mobilenet_v1, mobilenet_v1_cifar
from lowbit_sim.study.models.preresnet import (
    preresnet20,
    preresnet20_imagenet,
    preresnet50,
    preresnet50_cifar,
)
from lowbit_sim.study.models.resnet import resnet18, resnet20, resnet50
from lowbit_sim.study.models.small import mlp, mlp_bn, small_cnn
from lowbit_sim.study.models.vgg import vgg16, vgg16_imagenet

Builder = Callable[[int, int, int, int], nn.Module]

#: Name: (builder, width, smallest image, what the image's size is a multiple of).
MODELS: dict[str, tuple[Builder, int, int, int]] = {
    "mlp": (mlp, 128, 1, 1),
    "mlp_bn": (mlp_bn, 512, 1, 1),
    "small_cnn": (small_cnn, 16, 2, 2),
    "resnet20": (resnet20, 16, 4, 4),
    "preresnet20": (preresnet20, 16, 4, 4),
    "preresnet50_cifar": (preresnet50_cifar, 64, 8, 8),
    "mobilenet_v1_cifar": (mobilenet_v1_cifar, 32, 16, 16),
    "mobilenet_v2_cifar": (mobilenet_v2_cifar, 32, 8, 8),
    "vgg16": (vgg16, 64, 32, 32),
    "resnet18": (resnet18, 64, 32, 32),
    "resnet50": (resnet50, 64, 32, 32),
    "vgg16_imagenet": (vgg16_imagenet, 64, 32, 32),
    "mobilenet_v1": (mobilenet_v1, 32, 32, 32),
    "mobilenet_v2": (mobilenet_v2, 32, 32, 32),
    "preresnet20_imagenet": (preresnet20_imagenet, 64, 16, 16),
    "preresnet50": (preresnet50, 64, 32, 32),
}


def build(
    name: str, in_channels: int, classes: int, image_size: int, *, width: int | None = None, seed: int = 0
) -> nn.Module:
    """A model with initial weights that depend on `seed` alone.

    Args:
        name: One of `MODELS`.
        in_channels: Channels of an image.
        classes: Number of logits.
        image_size: Height and width of an image.
        width: Channels of the first stage (hidden features of the mlp); None for the model's own.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Raises:
        StudyError: An unknown name, a size that is not positive, or an image size that the model can't take.
    """
    if name not in MODELS:
        raise StudyError(unknown("model", name, MODELS))
    sizes = {"in_channels": in_channels, "classes": classes, "image_size": image_size, "width": width}
    for what, size in sizes.items():
        if size is not None and size < 1:
            raise StudyError(f"model {name}: {what} must be at least 1, got {size}")
    builder, default_width, smallest, multiple = MODELS[name]
    if image_size < smallest or image_size % multiple:
        raise StudyError(
            f"model {name} takes images of {smallest} pixels or more in multiples of {multiple}, got {image_size}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = builder(in_channels, classes, image_size, width or default_width)
        _initialize(model)
    return model


def _initialize(model: nn.Module) -> None:
    """Kernels from N(0, 2 / fan_out): He et al., "Delving Deep into Rectifiers", ICCV 2015."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
