"""MobileNet: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications".

arXiv 1704.04861, table 1.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lowbit_sim.study.models.blocks import conv_bn

#: (channels, stride) of each depthwise separable convolution, for a first convolution of 32 channels.
_STAGES = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 convolution and a 1x1 one, each with its batch-norm and activation."""
    return nn.Sequential(
        *(conv_bn(inputs, inputs, stride, groups=inputs), nn.ReLU()),
        *(conv_bn(inputs, outputs, kernel=1), nn.ReLU()),
    )


def _mobilenet(in_channels: int, classes: int, pixels: int, width: int, first_stride: int) -> nn.Module:
    layers: list[nn.Module] = [conv_bn(in_channels, width, first_stride), nn.ReLU()]
    channels = width
    for outputs, stride in _STAGES:
        outputs = max(1, outputs * width // 32)
        layers.append(_separable(channels, outputs, stride))
        channels = outputs
    features = nn.Sequential(*layers, nn.AvgPool2d(pixels), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(channels, classes)))


def mobilenet_v1(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """MobileNet for 224x224 images; another width scales every stage, as the paper's width multiplier does."""
    return _mobilenet(in_channels, classes, image_size // 32, width, 2)


def mobilenet_v1_cifar(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """MobileNet for 32x32 images: the first convolution without its stride."""
    return _mobilenet(in_channels, classes, image_size // 16, width, 1)
