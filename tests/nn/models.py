"""Small models and a training loop shared by the tests of the layers."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import lowbit_sim as lb

INT8 = lb.OpSpec.uniform(lb.INT8)
INT4 = lb.OpSpec.uniform(lb.INT4)
STOCHASTIC = lb.OpSpec.uniform(lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8))


def convnet(seed: int = 0) -> nn.Sequential:
    """A grouped convolution among two, and a linear layer, of 3 x 8 x 8 images to four classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )


def converted(spec: lb.OpSpec = STOCHASTIC, seed: int = 0) -> nn.Module:
    """A convnet, every layer emulated."""
    return lb.convert(convnet(), [lb.Rule("*", spec)], seed=seed)


def images(seed: int = 0, n: int = 8) -> Tensor:
    """[n, 3, 8, 8]."""
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def labels(n: int = 8) -> Tensor:
    """Class numbers [n]."""
    return torch.arange(n) % 4


def train(model: nn.Module, steps: range, optimizer: torch.optim.Optimizer | None = None) -> list[float]:
    """Some steps of gradient descent, each on its own images; the losses."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in steps:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images(step)), labels())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def different(a: nn.Module, b: nn.Module) -> Iterator[str]:
    """The parameters that differ in a bit."""
    other = dict(b.named_parameters())
    return (name for name, p in a.named_parameters() if not torch.equal(p, other[name]))


def assert_same(a: nn.Module, b: nn.Module) -> None:
    """The same parameters, bit for bit."""
    assert list(different(a, b)) == []


class Residual(nn.Module):
    """A basic block of ResNet (He et al. 2015): two convolutions and a shortcut that may change the shape."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
            if stride != 1 or inside != outside
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu_(self.bn1(self.conv1(x)))))
        return torch.relu_(y.add_(self.downsample(x)))


class InvertedResidual(nn.Module):
    """A block of MobileNetV2 (Sandler et al. 2018): expand, depthwise, project, shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        wide = 3 * inside
        self.shortcut = stride == 1 and inside == outside
        self.conv = nn.Sequential(
            nn.Conv2d(inside, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


def resnet(seed: int = 0) -> nn.Module:
    """Three residual blocks of 3 x 8 x 8 images to four classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        Residual(4, 4, 1),
        Residual(4, 8, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def vgg(seed: int = 0) -> nn.Module:
    """Convolutions, pools and two linear layers (Simonyan and Zisserman 2014)."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(inplace=True),
        nn.Dropout(0.2),
        nn.Linear(16, 4),
    )


def mobilenet(seed: int = 0) -> nn.Module:
    """Inverted residuals between a stem and a classifier."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU6(inplace=True),
        InvertedResidual(4, 4, 1),
        InvertedResidual(4, 6, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
