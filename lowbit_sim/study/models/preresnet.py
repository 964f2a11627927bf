"""Residual networks with activations in front of the convolutions.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016: the sum of a block is passed on as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lowbit_sim.study.models.blocks import Add
from lowbit_sim.study.models.resnet import Shortcut


def _conv(inputs: int, outputs: int, stride: int = 1, *, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class PreActivationBlock(nn.Module):
    """shortcut(x) + conv(relu(bn(conv(relu(bn(x)))))), the shortcut of option A.

    Args:
        inputs, outputs: Channels.
        stride: Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU()
        self.conv1 = _conv(inputs, outputs, stride)
        self.bn2, self.relu2 = nn.BatchNorm2d(outputs), nn.ReLU()
        self.conv2 = _conv(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else Shortcut(outputs - inputs, stride)
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = self.conv1(self.relu1(self.bn1(x)))
        return self.add(self.conv2(self.relu2(self.bn2(y))), self.shortcut(x))


class PreActivationBottleneck(nn.Module):
    """shortcut(x) + conv1x1(relu(bn(conv3x3(relu(bn(conv1x1(relu(bn(x))))))))), the stride on the 3x3 convolution.

    Where the shape changes the shortcut is a 1x1 convolution of relu(bn(x)), else x.

    Args:
        inputs, outputs: Channels; a quarter of the outputs inside.
        stride: Of the 3x3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inside = outputs // 4
        self.bn1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU()
        self.conv1 = _conv(inputs, inside, kernel=1)
        self.bn2, self.relu2 = nn.BatchNorm2d(inside), nn.ReLU()
        self.conv2 = _conv(inside, inside, stride)
        self.bn3, self.relu3 = nn.BatchNorm2d(inside), nn.ReLU()
        self.conv3 = _conv(inside, outputs, kernel=1)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else _conv(inputs, outputs, stride, kernel=1)
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        active = self.relu1(self.bn1(x))
        y = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return self.add(
            self.conv3(self.relu3(self.bn3(y))), x if self.shortcut is None else self.shortcut(active)
        )


Block = Callable[[int, int, int], nn.Module]


def _network(
    stem: Sequence[nn.Module],
    block: Block,
    stages: Sequence[tuple[int, int]],
    *,
    channels: int,
    classes: int,
    pixels: int,
) -> nn.Module:
    """Stem, blocks, a last norm and activation, the mean of each channel and a linear layer.

    Args:
        stem: The modules before the first block.
        block: Makes one of (inputs, outputs, stride).
        stages: (channels, blocks) of each; every one but the first halves the image.
        channels: Behind the stem.
        classes: Number of logits.
        pixels: Height and width of the last stage.
    """
    layers = list(stem)
    for stage, (outputs, count) in enumerate(stages):
        for number in range(count):
            layers.append(block(channels, outputs, 2 if stage and not number else 1))
            channels = outputs
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(pixels), nn.Flatten()]
    classifier = nn.Linear(channels, classes)
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), classifier=classifier))


def _imagenet_stem(in_channels: int, width: int) -> list[nn.Module]:
    return [_conv(in_channels, width, 2, kernel=7), nn.MaxPool2d(3, stride=2, padding=1)]


def preresnet20(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """PreResNet-20 for 32x32 images: the stages of ResNet-20 (He et al. 2016, section 4.2, n = 3, option A)."""
    stages = ((width, 3), (2 * width, 3), (4 * width, 3))
    stem = [_conv(in_channels, width)]
    return _network(stem, PreActivationBlock, stages, channels=width, classes=classes, pixels=image_size // 4)


def preresnet20_imagenet(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """PreResNet-20 for 224x224 images: its stages behind the 7x7 convolution and the pool of ImageNet's networks.

    No publication has it; the stem makes of the 32x32 network one that larger images go through in the same depth.
    """
    stages = ((width, 3), (2 * width, 3), (4 * width, 3))
    stem = _imagenet_stem(in_channels, width)
    return _network(
        stem, PreActivationBlock, stages, channels=width, classes=classes, pixels=image_size // 16
    )


def _stages_of_50(width: int) -> tuple[tuple[int, int], ...]:
    return (4 * width, 3), (8 * width, 4), (16 * width, 6), (32 * width, 3)


def preresnet50(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """PreResNet-50 for 224x224 images: ResNet-50's stages (He et al. 2016, table 1) of pre-activation bottlenecks."""
    stem, stages = _imagenet_stem(in_channels, width), _stages_of_50(width)
    return _network(
        stem, PreActivationBottleneck, stages, channels=width, classes=classes, pixels=image_size // 32
    )


def preresnet50_cifar(in_channels: int, classes: int, image_size: int, width: int) -> nn.Module:
    """PreResNet-50 for 32x32 images: a 3x3 convolution without a stride in the place of the stem."""
    stem, stages = [_conv(in_channels, width)], _stages_of_50(width)
    return _network(
        stem, PreActivationBottleneck, stages, channels=width, classes=classes, pixels=image_size // 8
    )
