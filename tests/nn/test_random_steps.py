"""The counters that address a layer's random bits."""

import copy

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.arith.spec import GemmSpec
from tests.nn.models import STOCHASTIC, assert_same, converted, convnet, different, images, train

_DRAWN = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
_GEMM = GemmSpec(_DRAWN, _DRAWN)
#: The forward pass draws too.
DRAWN = lb.OpSpec(output=_GEMM, grad_input=_GEMM, grad_weight=_GEMM)


def test_a_training_pass_moves_every_layer_on() -> None:
    model = converted()
    assert lb.random_steps(model) == {"0": 0, "2": 0, "5": 0}
    train(model, range(3))
    assert lb.random_steps(model) == {"0": 3, "2": 3, "5": 3}


def test_evaluation_repeats_itself() -> None:
    model = converted(DRAWN)
    train(model, range(2))
    before = lb.random_steps(model)
    model.eval()
    first = model(images())
    assert torch.equal(model(images()), first)
    with torch.no_grad():
        assert torch.equal(model.train()(images()), first)
    assert lb.random_steps(model) == before
    model(images())
    with torch.no_grad():
        assert not torch.equal(model(images()), first)


def test_evaluating_in_between_changes_no_training_bit() -> None:
    plain, interrupted = converted(DRAWN), converted(DRAWN)
    train(plain, range(3))
    for step in range(3):
        train(interrupted, range(step, step + 1))
        interrupted.eval()(images())
        interrupted.train()
    assert_same(plain, interrupted)


def test_layers_seeds_and_steps_draw_different_bits() -> None:
    def first_step(**options) -> nn.Module:
        model = lb.convert(convnet(), [lb.Rule("*", DRAWN)], **options)
        train(model, range(1))
        return model

    assert_same(first_step(), first_step())
    assert_same(first_step(), first_step(seed=0))
    assert list(different(first_step(), first_step(seed=1)))
    later = converted(DRAWN)
    lb.set_random_steps(later, {"0": 7, "2": 7, "5": 7})
    train(later, range(1))
    assert list(different(first_step(), later))


def test_equal_layers_draw_different_bits() -> None:
    first = nn.Linear(30, 20)
    model = lb.convert(nn.ModuleList([first, copy.deepcopy(first)]), [lb.Rule("*", DRAWN)])
    x = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model[0](x), model[1](x))  # type: ignore[index]


def test_a_native_layer_takes_no_bits_from_the_others() -> None:
    """A layer's bits depend on its place in the model, not on which layers are emulated."""
    everything = lb.convert(convnet(), [lb.Rule("*", DRAWN)])
    some = lb.convert(convnet(), [lb.Rule("0", None), lb.Rule("*", DRAWN)])
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(everything.get_submodule("5")(x), some.get_submodule("5")(x))


@pytest.mark.parametrize("spec", [STOCHASTIC, DRAWN], ids=["gradients", "everything"])
def test_training_resumes_bit_for_bit(spec) -> None:
    whole, start = converted(spec), converted(spec)
    losses = train(whole, range(4))
    train(start, range(2))
    saved = copy.deepcopy((start.state_dict(), lb.random_steps(start)))
    resumed = lb.convert(convnet(seed=9), [lb.Rule("*", spec)])
    resumed.load_state_dict(saved[0])
    lb.set_random_steps(resumed, saved[1])
    assert train(resumed, range(2, 4)) == losses[2:]
    assert_same(resumed, whole)
    # Without the counters the bits differ, so the test above can fail.
    forgotten = lb.convert(convnet(seed=9), [lb.Rule("*", spec)])
    forgotten.load_state_dict(saved[0])
    train(forgotten, range(2, 4))
    assert list(different(forgotten, whole))


@pytest.mark.parametrize("steps", [{"0": 1}, {"0": 1, "2": 1, "5": 1, "6": 1}, {}])
def test_steps_of_another_model_are_refused(steps) -> None:
    odd = sorted({"0", "2", "5"} ^ steps.keys())
    model = converted()
    with pytest.raises(ValueError, match=f"for other layers than the model's: {', '.join(odd)}"):
        lb.set_random_steps(model, steps)
    assert lb.random_steps(model) == {"0": 0, "2": 0, "5": 0}


@pytest.mark.parametrize("step", [-5, 1.5, 1 << 32])
def test_steps_that_are_no_counts_are_refused(step) -> None:
    with pytest.raises(ValueError, match="random step of '2' must be from 0"):
        lb.set_random_steps(converted(), {"0": 0, "2": step, "5": 0})


def test_native_layers_have_no_steps() -> None:
    assert lb.random_steps(convnet()) == {}
    assert lb.random_steps(lb.convert(convnet(), [lb.Rule("2", DRAWN)])) == {"2": 0}
