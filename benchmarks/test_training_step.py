"""One training step of a small VGG on 32x32 images, batch 64: native against emulated.

conv 64-64-pool-128-128-pool-256-256-pool with batch-norm, then one linear layer.
"""

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lowbit_sim as lb

pytestmark = pytest.mark.benchmark(group="training step, small VGG, batch 64", min_rounds=5)

BATCH = 64


def vgg_small() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 4 * 4, 10))


def make_step(spec: lb.OpSpec | None, autocast: bool = False):
    torch.manual_seed(0)
    model = vgg_small()
    if spec is not None:
        lb.convert(model, [lb.Rule("*", spec)])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x, y = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
ARMS: dict[str, tuple[lb.OpSpec | None, bool]] = {
    "native float32": (None, False),
    "native bfloat16 autocast": (None, True),
    "int8, 32-bit": (lb.OpSpec.uniform(lb.INT8), False),
    "int4, stochastic gradients": (lb.OpSpec.uniform(lb.INT4, gradient_rounding=STOCHASTIC), False),
    "int8, 16-bit saturating": (
        lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=16, overflow="saturate")),
        False,
    ),
}


@pytest.mark.parametrize("arm", ARMS, ids=lambda name: name.replace(", ", "_").replace(" ", "_"))
def test_training_step(benchmark, arm):
    spec, autocast = ARMS[arm]
    step = make_step(spec, autocast)
    losses = [step() for _ in range(4)]
    assert all(map(math.isfinite, losses))
    # The narrow accumulator is there to hurt; the others must learn one batch.
    assert min(losses[1:]) < losses[0] or "saturating" in arm
    benchmark(step)
