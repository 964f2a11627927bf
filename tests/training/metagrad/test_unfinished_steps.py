"""Steps of MetaGrad that end early, or whose update is left out."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn.weight_preprocessing import WeightPreprocessing
from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import Step
from tests.training.metagrad.nets import (
    HYPERNETWORKS,
    INT4,
    batches,
    bits,
    net,
    step_through,
)
from tests.training.toys import SETTINGS, toy_examples, toy_model


@pytest.mark.parametrize("quantizer", [None, lb.Quantizer(lb.INT8)], ids=["no Q_G", "Q_G"])
@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
def test_a_gradient_that_is_not_finite_leaves_nothing_behind(hypernetwork, quantizer):
    """Training recovers from a step whose update is left out for it, as a gradient scaler does."""
    recipe = lb.MetaGrad(HYPERNETWORKS[hypernetwork](), gradient_quantizer=quantizer)
    model: Any = lb.preprocess_weights(net(), "dorefa")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, batch in enumerate(batches("dense", 7)):
        step = Step(index=index, epoch=0, model=model, optimizer=optimizer, batch=batch)
        optimizer.zero_grad()
        recipe.before_step(step)
        nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()
        if index == 3:
            model[0].parametrizations.weight.original.grad[0, 0] = math.inf
        recipe.on_gradients(step)
        if index != 3:
            optimizer.step()
            recipe.after_step(step)
    assert all(map(math.isfinite, recipe.measurements().values()))
    assert all(bool(p.isfinite().all()) for p in (*model.parameters(), *recipe.hypernetwork.parameters()))
    assert (recipe._effect.steps, recipe._effect.updates) == (6, 5)


@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
def test_a_step_that_is_left_out_changes_nothing_of_the_next(hypernetwork):
    """The same batches with an infinite gradient in between, on a model without random bits: bit for bit one run."""
    found = []
    for with_the_step in (True, False):
        model, recipe = net(spec=None), lb.MetaGrad(HYPERNETWORKS[hypernetwork](), parameters=("*",))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        data = batches("dense", 6)
        step_through(model, optimizer, data[:3], recipe)
        if with_the_step:
            for p in model.parameters():
                p.grad = torch.full_like(p, math.nan)
            recipe.on_gradients(Step(index=3, epoch=0, model=model, optimizer=optimizer, batch=data[0]))
            assert all(bool(p.grad.isnan().all()) for p in model.parameters())
        step_through(model, optimizer, data[3:], recipe, start=3)
        found.append((bits(model), bits(recipe.hypernetwork), recipe.measurements()))
    assert found[0] == found[1]


def test_what_was_kept_is_of_no_use_once_an_infinite_gradient_was_committed():
    """A recipe behind has made it finite, so the weights are no longer those that the last correction led to."""

    class Mend:
        def before_step(self, step: Step) -> None: ...

        def on_gradients(self, step: Step) -> None:
            for p in step.model.parameters():
                p.grad.nan_to_num_(posinf=0.0)

        def after_step(self, step: Step) -> None: ...

    class Break(Mend):
        def on_gradients(self, step: Step) -> None:
            if step.index == 1:
                next(step.model.parameters()).grad.view(-1)[0] = math.inf

    model, recipe = net(), lb.MetaGrad(lb.FCGrad())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    numbers = []
    for index, batch in enumerate(batches("dense", 4)):
        step_through(model, optimizer, [batch], Break(), recipe, Mend(), start=index)
        numbers.append(recipe.measurements()["c"])
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]


def abandoned(step: Step, recipe: lb.MetaGrad) -> None:
    recipe.before_step(step)
    step.model(step.batch.inputs).sum().backward()


@pytest.mark.parametrize("ends", ["forgotten", "told", "next step"])
def test_a_step_that_ends_early_leaves_the_gradients_calibrated(ends):
    model: Any = lb.preprocess_weights(net(), "dorefa")
    plain = copy.deepcopy(model)
    recipe, batch = lb.MetaGrad(lb.FCGrad()), batches("dense", 1)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=batch)
    abandoned(step, recipe)
    assert model[0].parametrizations.weight[0].passes_uncalibrated
    if ends == "told":
        recipe.abandon_step()
    elif ends == "next step":
        step_through(model, optimizer, [batch], recipe)
    else:
        del step
    optimizer.zero_grad()
    plain.load_state_dict(model.state_dict())
    lb.load_emulation_state(plain, lb.emulation_state(model))
    for each in (model, plain):
        nn.functional.cross_entropy(each(batch.inputs), batch.targets).backward()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_a_run_that_is_interrupted_leaves_the_gradients_calibrated():
    """With the traceback, and in it the step, still there."""
    model = lb.preprocess_weights(lb.convert(toy_model(), [lb.Rule("*", INT4)]), "dorefa")
    weights = [m for m in model.modules() if isinstance(m, WeightPreprocessing)]

    def interrupt(*_) -> None:
        assert all(m.passes_uncalibrated for m in weights)
        raise KeyboardInterrupt

    model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt) as told:
        train(model, toy_examples(), toy_examples(), SETTINGS, recipes=[lb.MetaGrad(lb.FCGrad())])
    assert told.tb is not None
    assert weights
    assert not any(m.passes_uncalibrated for m in weights)


def test_a_step_leaves_no_hook_on_the_optimiser():
    model, recipe = net(), lb.MetaGrad(lb.FCGrad())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step_through(model, optimizer, batches("dense", 3), recipe)
    assert not optimizer._optimizer_step_pre_hooks
    step = Step(index=3, epoch=0, model=model, optimizer=optimizer, batch=batches("dense", 1)[0])
    for _ in range(2):  # updates that are left out
        recipe.before_step(step)
        recipe.on_gradients(step)
        assert len(optimizer._optimizer_step_pre_hooks) == 1
