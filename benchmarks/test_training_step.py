"""One training step on 32x32 images, batch 64: native against emulated.

A small VGG (conv 64-64-pool-128-128-pool-256-256-pool with batch-norm, then one linear layer) and ResNet-20.
"""

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lowbit_sim as lb
from benchmarks.race import Contender, race
from benchmarks.targets import at_most_time
from lowbit_sim.ops.backend import using_backend
from lowbit_sim.study.models import build

BATCH = 64
CHECKED = 4  # images of the step that is checked
NATIVE = "native float32"
WORK = f"training step, batch {BATCH}: {{}}"


def vgg_small() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 4 * 4, 10))


MODELS = {"small VGG": vgg_small, "ResNet-20": lambda: build("resnet20", 3, 10, 32, width=16)}


def make_step(model_name: str, arm: str = NATIVE, autocast: bool = False):
    torch.manual_seed(0)
    return step_of(convert(MODELS[model_name](), arm), autocast=autocast)


def convert(model: nn.Module, arm: str) -> nn.Module:
    """The model under an arm; native float32 stays as it is."""
    return model if arm == NATIVE else lb.convert(model, [lb.Rule("*", ARMS[arm])])


def step_of(model: nn.Module, *, autocast: bool = False, batch: int = BATCH):
    """A training step on random images."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def check_bits(model_name: str, arm: str) -> None:
    """One step's gradients are, bit for bit, those of the step whose GEMMs all run on the sequential MAC loops.

    Raises:
        AssertionError: A gradient differs.
    """
    fast, slow = (gradients(model_name, arm, backend) for backend in (None, "numba_cpu"))
    for name, gradient in fast.items():
        assert torch.equal(gradient, slow[name]), f"{model_name}, {arm}: {name} differs"


def gradients(model_name: str, arm: str, backend: str | None) -> dict[str, torch.Tensor]:
    """Every parameter's gradient in the first step on a few images."""
    torch.manual_seed(0)
    model = convert(MODELS[model_name](), arm)
    x, y = torch.randn(CHECKED, 3, 32, 32), torch.randint(0, 10, (CHECKED,))
    with contextlib.nullcontext() if backend is None else using_backend(backend):
        F.cross_entropy(model(x), y).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
SATURATING = lb.MacUnit(accumulator_bits=16, overflow="saturate")
ARMS: dict[str, lb.OpSpec] = {
    "INT8": lb.OpSpec.uniform(lb.INT8),
    "INT4, stochastic gradients": lb.OpSpec.uniform(lb.INT4, gradient_rounding=STOCHASTIC),
    "INT8, 16-bit saturating": lb.OpSpec.uniform(lb.INT8, mac=SATURATING),
}


def beside_native(benchmark, model_name: str, name: str, run, *, ours=False, targets=()):
    race(
        benchmark,
        Contender(name=name, run=run, ours=ours),
        against=Contender(name=NATIVE, run=make_step(model_name)),
        work=WORK.format(model_name),
        targets=targets,
        seconds=10,
    )


@pytest.mark.parametrize("model_name", MODELS)
def test_bfloat16_autocast(benchmark, model_name):
    run = make_step(model_name, autocast=True)
    beside_native(benchmark, model_name, "native bfloat16 autocast", run)


@pytest.mark.parametrize("arm", ARMS, ids=lambda name: name.replace(", ", "_").replace(" ", "_"))
@pytest.mark.parametrize("model_name", MODELS)
def test_training_step(benchmark, model_name, arm):
    check_bits(model_name, arm)
    run = make_step(model_name, arm)
    losses = [run() for _ in range(4)]
    assert all(map(math.isfinite, losses))
    # The narrow accumulator is there to hurt; the others must learn one batch.
    assert min(losses[1:]) < losses[0] or "saturating" in arm
    targets = [] if "saturating" in arm else [at_most_time(1.0, NATIVE)]
    beside_native(benchmark, model_name, arm, run, ours=True, targets=targets)
