"""VGG-16: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lowbit_sim.study.models.blocks import conv_bn


def _stages(width: int) -> tuple[tuple[int, int], ...]:
    """Configuration D: (channels, convolutions) of each stage."""
    return (width, 2), (2 * width, 2), (4 * width, 3), (8 * width, 3), (8 * width, 3)


def vgg16(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """VGG-16 for 32x32 images: configuration D's 13 convolutions, with batch-norm and one linear layer.

    Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1; its three linear layers
    are for 224x224 images.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for outputs, convolutions in _stages(width):
        for _ in range(convolutions):
            layers += [conv_bn(channels, outputs), nn.ReLU()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers, nn.AvgPool2d(image_size // 32), nn.Flatten())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(8 * width, classes)))


def vgg16_imagenet(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """VGG-16 as published, for 224x224 images: biases in place of batch-norm, three linear layers, dropout."""
    layers: list[nn.Module] = []
    channels = in_channels
    for outputs, convolutions in _stages(width):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    hidden = 64 * width
    classifier = nn.Sequential(
        *(nn.Linear(8 * width * (image_size // 32) ** 2, hidden), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(hidden, classes),
    )
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers, nn.Flatten()), classifier=classifier))
