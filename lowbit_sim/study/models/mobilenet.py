"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from lowbit_sim.study.models.blocks import Add, conv_bn

#: (expansion, channels, blocks, stride of the first) of each stage, for a first convolution of 32 channels.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """x + project(depthwise(expand(x))), without the sum where the shape changes.

    Args:
        inputs, outputs: Channels.
        stride: Of the depthwise convolution.
        expansion: Channels of the depthwise convolution for each input channel; 1 leaves the first convolution out.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [conv_bn(inputs, inside, kernel=1), nn.ReLU6()]
        layers += [conv_bn(inside, inside, stride, groups=inside), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, conv_bn(inside, outputs, kernel=1))
        self.add = Add() if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = self.layers(x)
        return y if self.add is None else self.add(x, y)


def mobilenet_v2(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """MobileNetV2 for 224x224 images; another width scales every stage, to multiples of 8 channels."""
    return _mobilenet_v2(
        in_channels, classes, image_size // 32, width, strides=(2, *(s for *_, s in _STAGES))
    )


def mobilenet_v2_cifar(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """MobileNetV2 for 32x32 images: the first two of its strides left out."""
    strides = (1, 1, 1, *(s for *_, s in _STAGES[2:]))
    return _mobilenet_v2(in_channels, classes, image_size // 8, width, strides=strides)


def _mobilenet_v2(
    in_channels: int, classes: int, pixels: int, width: int, strides: tuple[int, ...]
) -> nn.Module:
    """The network with other strides of its first convolution and its stages."""
    layers: list[nn.Module] = [conv_bn(in_channels, width, strides[0]), nn.ReLU6()]
    channels = width
    for (expansion, outputs, blocks, _), stride in zip(_STAGES, strides[1:], strict=True):
        outputs = _scaled(outputs, width)
        for number in range(blocks):
            layers.append(InvertedResidual(channels, outputs, 1 if number else stride, expansion))
            channels = outputs
    last = max(1280, _scaled(1280, width))
    layers += [conv_bn(channels, last, kernel=1), nn.ReLU6()]
    features = nn.Sequential(*layers, nn.AvgPool2d(pixels), nn.Flatten())
    classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


def _scaled(channels: int, width: int) -> int:
    """The multiple of 8 nearest to channels times width / 32, never more than a tenth below it."""
    exact = channels * width / 32
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded
