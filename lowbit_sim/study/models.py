"""The models that a study can name, for small images.

Everything that costs time on a machine is a module, also the addition of a residual branch, so that a trace
of a training step sees it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.errors import StudyError


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


def _conv_bn(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution and its batch-norm; the norm's shift makes a bias superfluous."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            bn=nn.BatchNorm2d(outputs),
        )
    )


def _mlp(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def _small_cnn(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """Three convolutions with batch-norm; one halving of the image; a linear layer on the channels' means."""
    features = nn.Sequential(
        *(_conv_bn(in_channels, width), nn.ReLU()),
        *(_conv_bn(width, 2 * width), nn.ReLU(), nn.MaxPool2d(2)),
        *(_conv_bn(2 * width, 2 * width), nn.ReLU()),
        # Not the adaptive pool, whose backward pass has no deterministic kernel on a GPU.
        nn.AvgPool2d(image_size // 2),
        nn.Flatten(),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(2 * width, classes)))


class Add(nn.Module):
    """The sum of two tensors of one shape."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """X + y."""
        return x + y


class Shortcut(nn.Module):
    """He et al.'s option A: every `stride`-th pixel, and zeros for the channels that a block adds.

    Args:
        added: How many channels to add.
        stride: The block's stride.
    """

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = added, stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C + added, H / stride, W / stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))).

    Args:
        inputs, outputs: Channels.
        stride: Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_bn(inputs, outputs, stride)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv_bn(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else Shortcut(outputs - inputs, stride)
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return self.relu2(self.add(self.conv2(self.relu1(self.conv1(x))), self.shortcut(x)))


def _resnet20(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """ResNet-20 for CIFAR: He et al., "Deep Residual Learning", CVPR 2016, section 4.2 (n = 3, option A)."""
    layers: list[nn.Module] = [_conv_bn(in_channels, width), nn.ReLU()]
    channels = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        for block in range(3):
            layers.append(BasicBlock(channels, outputs, stride if block == 0 else 1))
            channels = outputs
    features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 4), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(4 * width, classes)))


def _vgg16(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """VGG-16 for 32x32 images: configuration D's 13 convolutions, with batch-norm and one linear layer.

    Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1; its three linear layers
    are for 224x224 images.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for outputs, convolutions in ((width, 2), (2 * width, 2), (4 * width, 3), (8 * width, 3), (8 * width, 3)):
        for _ in range(convolutions):
            layers += [_conv_bn(channels, outputs), nn.ReLU()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 32), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(8 * width, classes)))


Builder = Callable[[int, int, int, int], nn.Module]

#: Name: (builder, width, smallest image, what the image's size is a multiple of).
MODELS: dict[str, tuple[Builder, int, int, int]] = {
    "mlp": (_mlp, 128, 1, 1),
    "small_cnn": (_small_cnn, 16, 2, 2),
    "resnet20": (_resnet20, 16, 4, 4),
    "vgg16": (_vgg16, 64, 32, 32),
}
