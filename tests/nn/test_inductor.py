"""A converted model through torch's own compiler: what is emulated keeps its bits, the rest is compiled."""

import warnings

import pytest
import torch
from torch import nn

import lowbit_sim as lb


def steps(wrap) -> list[torch.Tensor]:
    """The weights after some steps of a network whose native layers add nothing, so that no order of sums matters."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3, bias=False)
    )
    spec = lb.OpSpec.uniform(lb.INT8, gradient_rounding=lb.Rounding("stochastic", random_bits=8))
    model = lb.convert(network, [lb.Rule("*", spec)], seed=1)
    run = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        x, g = torch.randn(4, 2, 6, 6, generator=generator), torch.randn(4, 3, generator=generator)
        optimizer.zero_grad()
        run(x).backward(g)
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.slow
def test_training_through_the_compiler_gives_the_eager_bits():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own modules
        compiled = steps(torch.compile)
    assert all(map(torch.equal, compiled, steps(lambda model: model)))
