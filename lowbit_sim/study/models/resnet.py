"""Residual networks: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.study.models.blocks import Add, conv_bn


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
        shortcut: The other branch; by default option A's.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, stride)
        self.relu1 = nn.ReLU()
        self.conv2 = conv_bn(outputs, outputs)
        same = inputs == outputs and stride == 1
        default = nn.Identity() if same else Shortcut(outputs - inputs, stride)
        self.shortcut = default if shortcut is None else shortcut
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return self.relu2(self.add(self.conv2(self.relu1(self.conv1(x))), self.shortcut(x)))


def resnet20(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """ResNet-20 for CIFAR: He et al., "Deep Residual Learning", CVPR 2016, section 4.2 (n = 3, option A)."""
    layers: list[nn.Module] = [conv_bn(in_channels, width), nn.ReLU()]
    channels = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        for block in range(3):
            layers.append(BasicBlock(channels, outputs, stride if block == 0 else 1))
            channels = outputs
    features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 4), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(4 * width, classes)))


class Bottleneck(nn.Module):
    """relu(shortcut(x) + bn(conv1x1(relu(bn(conv3x3(relu(bn(conv1x1(x))))))))), the stride on the 3x3 convolution.

    Args:
        inputs, outputs: Channels; a quarter of the outputs inside.
        stride: Of the 3x3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inside = outputs // 4
        self.conv1 = conv_bn(inputs, inside, kernel=1)
        self.relu1 = nn.ReLU()
        self.conv2 = conv_bn(inside, inside, stride)
        self.relu2 = nn.ReLU()
        self.conv3 = conv_bn(inside, outputs, kernel=1)
        self.shortcut = _projection(inputs, outputs, stride)
        self.add = Add()
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = self.conv3(self.relu2(self.conv2(self.relu1(self.conv1(x)))))
        return self.relu3(self.add(y, self.shortcut(x)))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """He et al.'s option B: a 1x1 convolution where a block changes the shape."""
    same = inputs == outputs and stride == 1
    return nn.Identity() if same else conv_bn(inputs, outputs, stride, kernel=1)


def resnet18(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """ResNet-18 for 224x224 images: He et al. 2016, table 1, with projections (option B)."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        return BasicBlock(inputs, outputs, stride, shortcut=_projection(inputs, outputs, stride))

    return _imagenet(block, (2, 2, 2, 2), 1, in_channels, classes, image_size, width)


def resnet50(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """ResNet-50 for 224x224 images: He et al. 2016, table 1, with projections (option B).

    A stage's stride is on its first 3x3 convolution, as in Goyal et al., "Accurate, Large Minibatch SGD" (2017).
    """
    return _imagenet(Bottleneck, (3, 4, 6, 3), 4, in_channels, classes, image_size, width)


def _imagenet(
    block: Callable[[int, int, int], nn.Module],
    blocks: Sequence[int],
    expansion: int,
    in_channels: int,
    classes: int,
    image_size: int,
    width: int,
) -> nn.Module:
    layers: list[nn.Module] = [conv_bn(in_channels, width, 2, kernel=7), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    channels = width
    for stage, count in enumerate(blocks):
        outputs = (width << stage) * expansion
        for number in range(count):
            layers.append(block(channels, outputs, 2 if stage and not number else 1))
            channels = outputs
    features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 32), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(channels, classes)))
