"""The state of MetaGrad: resumed, copied and refused."""

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn.state import emulation_state, load_emulation_state
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.loop import train
from tests.training.metagrad.nets import (
    FROZEN,
    HYPERNETWORKS,
    INT4,
    STOCHASTIC,
    batches,
    bits,
    low_precision_hypernetwork,
    net,
    step_through,
)
from tests.training.toys import SETTINGS, toy_examples, toy_model


def with_running_scales() -> lb.MomentFC:
    spec = lb.OpSpec.uniform(lb.INT8, scale=lb.EmaScale())
    return lb.convert(lb.MomentFC(), [lb.Rule("*", spec)])  # type: ignore[return-value]


#: Two with a state of their own: of each of its layers, how many random bits it has drawn, and its scales.
KINDS = {
    **HYPERNETWORKS,
    "running scales": with_running_scales,
    "stochastic int8": low_precision_hypernetwork,
    "stochastic int8 frozen": low_precision_hypernetwork,
}


@pytest.mark.parametrize("hypernetwork", KINDS)
def test_a_resumed_run_goes_on_bit_for_bit(hypernetwork):
    data = batches("dense", 9)
    quantizer = lb.Quantizer(lb.INT4, rounding=STOCHASTIC)

    def fresh():
        model = net()
        phi = FROZEN if "frozen" in hypernetwork else lb.PhiTraining()
        recipe = lb.MetaGrad(KINDS[hypernetwork](), phi=phi, gradient_quantizer=quantizer, seed=5)
        return model, torch.optim.Adam(model.parameters(), lr=0.01), recipe

    whole, optimizer, recipe = fresh()
    step_through(whole, optimizer, data[:4], recipe)
    file = io.BytesIO()
    states = (whole.state_dict(), optimizer.state_dict(), recipe.state_dict(), emulation_state(whole))
    torch.save(states, file)
    step_through(whole, optimizer, data[4:], recipe, start=4)

    file.seek(0)
    of_model, of_optimizer, of_recipe, of_emulation = torch.load(file, weights_only=True)
    model, optimizer, again = fresh()
    model.load_state_dict(of_model)
    optimizer.load_state_dict(of_optimizer)
    load_emulation_state(model, of_emulation)
    again.load_state_dict(of_recipe)
    step_through(model, optimizer, data[4:], again, start=4)
    assert bits(model) == bits(whole)
    assert bits(again.hypernetwork) == bits(recipe.hypernetwork)
    assert again.measurements() == recipe.measurements()


def test_the_state_of_a_recipe_that_has_not_stepped_since_it_was_loaded():
    model, recipe = net(), lb.MetaGrad(lb.MomentFC())
    step_through(model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 3), recipe)
    state = recipe.state_dict()
    again = lb.MetaGrad(lb.MomentFC())
    again.load_state_dict(state)
    assert str(again.state_dict()) == str(state)


def test_a_state_is_no_view_of_what_goes_on():
    model, recipe = net(), lb.MetaGrad(lb.MomentFC())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step_through(model, optimizer, batches("dense", 3), recipe)
    state = recipe.state_dict()
    text = str(state)
    step_through(model, optimizer, batches("dense", 3), recipe)
    assert str(state) == text


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_an_independent_twin(copied):
    model, recipe = net(), lb.MetaGrad(lb.LSTMFC(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step_through(model, optimizer, batches("dense", 3), recipe)
    before = str(recipe.state_dict())
    twin_model, twin_optimizer, twin = copy.deepcopy((model, optimizer)) + (copied(recipe),)
    step_through(twin_model, twin_optimizer, batches("dense", 3), twin)
    assert str(recipe.state_dict()) == before
    step_through(model, optimizer, batches("dense", 3), recipe)
    assert bits(model) == bits(twin_model)
    assert bits(recipe.hypernetwork) == bits(twin.hypernetwork)


def test_a_state_of_other_parameters_is_refused():
    model, recipe = net(), lb.MetaGrad(lb.FCGrad())
    step_through(model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 2), recipe)
    other = net("convolutional")
    again = lb.MetaGrad(lb.FCGrad())
    again.load_state_dict(recipe.state_dict())
    with pytest.raises(
        ValueError, match=r"other parameters than the model's: 0\.weight, 2\.weight, 3\.weight"
    ):
        step_through(other, torch.optim.SGD(other.parameters(), lr=0.1), batches("convolutional", 1), again)
    others = (
        r"others than in the step before \(gone or frozen: 2\.weight; new: 3\.weight; of another shape: "
        r"0\.weight\): name with `parameters`.*or go on with a new MetaGrad"
    )
    with pytest.raises(ValueError, match=others):
        step_through(other, torch.optim.SGD(other.parameters(), lr=0.1), batches("convolutional", 1), recipe)


class Stopped(Exception):
    """The run is stopped from outside."""


@pytest.mark.parametrize("hypernetwork", ["lstm_fc", "moment_fc"])
@pytest.mark.parametrize("preprocessing", ["none", "dorefa"])
def test_a_run_of_the_loop_resumes_from_its_checkpoint(tmp_path, hypernetwork, preprocessing):
    """With accumulated gradients; the measurements of its epochs are those of a run that was never stopped."""
    settings = replace(SETTINGS, epochs=3, accumulation=2)

    def run(model: nn.Module, **options):
        recipe = lb.MetaGrad(HYPERNETWORKS[hypernetwork](), gradient_quantizer=lb.Quantizer(lb.INT8))
        return train(model, toy_examples(), toy_examples(), settings, recipes=[recipe], **options)

    def model() -> nn.Module:
        return lb.preprocess_weights(lb.convert(toy_model(), [lb.Rule("*", INT4)]), preprocessing)

    def stop(metrics) -> None:
        if metrics.epoch == 2:
            raise Stopped

    whole = model()
    expected = run(whole)
    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(Stopped):
        run(model(), checkpoint=checkpoint, on_epoch=stop)
    again = model()
    result = run(again, checkpoint=checkpoint)
    assert bits(again) == bits(whole)
    assert [e.measurements for e in result.epochs] == [e.measurements for e in expected.epochs]
    assert set(expected.epochs[0].measurements) == {
        "meta_grad.gain",
        "meta_grad.cosine",
        "meta_grad.phi_gradient_norm",
    }
