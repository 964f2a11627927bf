"""Multi-layer perceptrons and a small convolutional network, for small images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lowbit_sim.study.models.blocks import conv_bn


def mlp(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def mlp_bn(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """Two hidden layers with batch-norm, of a quarter of the width and of the width: a wide head on cheap features.

    The last layer sees the features one by one, not as means over pixels.
    """
    narrow = max(1, width // 4)
    features = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(in_channels * image_size**2, narrow, bias=False), nn.BatchNorm1d(narrow), nn.ReLU()),
        *(nn.Linear(narrow, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(width, classes)))


def small_cnn(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """Three convolutions with batch-norm; one halving of the image; a linear layer on the channels' means."""
    features = nn.Sequential(
        *(conv_bn(in_channels, width), nn.ReLU()),
        *(conv_bn(width, 2 * width), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv_bn(2 * width, 2 * width), nn.ReLU()),
        # Not the adaptive pool, whose backward pass has no deterministic kernel on a GPU.
        nn.AvgPool2d(image_size // 2),
        nn.Flatten(),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(2 * width, classes)))
