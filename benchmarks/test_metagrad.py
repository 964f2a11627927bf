"""One INT4 training step, plain and corrected by each of MetaGrad's hypernetworks: the ratio is the recipe's cost.

Two networks, batch 64: the small CNN of the digits studies and ResNet-20 on 32x32 images. INT4 in all three GEMMs,
gradients rounded stochastically, SGD with momentum.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lowbit_sim as lb
from benchmarks.race import Contender, race
from benchmarks.targets import at_most_time
from lowbit_sim.study.models import build
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.recipe import Step

BATCH = 64
INT4 = lb.OpSpec.uniform(lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8))
HYPERNETWORKS = {
    "none": None,
    "fc_grad": lb.FCGrad,
    "fc_grad relu": partial(lb.FCGrad, activation="relu"),
    "multi_fc": lb.MultiFC,
    "moment_fc": lb.MomentFC,
    "lstm_fc": lb.LSTMFC,
}
#: What a contender and the plain step take together: 50 rounds or so of both.
SECONDS = {"digits": 2.0, "resnet20": 20.0}
#: Model, channels, image size, width.
NETS = {"digits": ("small_cnn", 1, 8, 32), "resnet20": ("resnet20", 3, 32, 16)}


def make_step(net: str, hypernetwork: str):
    """A training step of a net, and the recipe in it."""
    name, channels, size, width = NETS[net]
    model = lb.convert(build(name, channels, 10, size, width=width), [lb.Rule("*", INT4)])
    return step_of(model, channels, size, hypernetwork)


def step_of(model: nn.Module, channels: int, size: int, hypernetwork: str):
    """A training step of a converted model on random images, and the recipe in it."""
    kind = HYPERNETWORKS[hypernetwork]
    recipe = None if kind is None else lb.MetaGrad(kind())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    batch = Examples(
        inputs=torch.randn(BATCH, channels, size, size, generator=generator),
        targets=torch.randint(0, 10, (BATCH,), generator=generator),
    )
    step = Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=batch)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        if recipe is not None:
            recipe.before_step(step)
        loss = F.cross_entropy(model(batch.inputs), batch.targets)
        loss.backward()
        if recipe is not None:
            recipe.on_gradients(step)
        optimizer.step()
        if recipe is not None:
            recipe.after_step(step)
        return float(loss.detach())

    return run, recipe


@pytest.mark.parametrize("hypernetwork", [name for name in HYPERNETWORKS if name != "none"])
@pytest.mark.parametrize("net", NETS)
def test_training_step(benchmark, net, hypernetwork):
    run, recipe = make_step(net, hypernetwork)
    losses = [run() for _ in range(4)]
    assert losses[-1] < losses[0]
    assert recipe is not None
    assert recipe.measurements()["phi_gradient_norm"] > 0
    race(
        benchmark,
        Contender(name=hypernetwork, run=run, ours=True),
        against=Contender(name="plain INT4 step", run=make_step(net, "none")[0]),
        work="INT4 training step with MetaGrad, batch 64",
        case=net,
        targets=[at_most_time(1.5, "plain INT4 step")],
        seconds=SECONDS[net],
    )
