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
