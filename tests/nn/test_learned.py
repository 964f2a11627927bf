"""Learned scales as parameters of a layer, and what a model remembers beside its parameters."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.nn.learned import STEPS
from lowbit_sim.nn.state import emulation_state, load_emulation_state
from lowbit_sim.quant.learned_step import learned_step
from tests.ops.cases import reals

LEARNED = lb.Quantizer(lb.INT4, scale=lb.LearnedScale())
PLAIN = lb.Quantizer(lb.INT8)
SPEC = lb.OpSpec(
    output=lb.GemmSpec(LEARNED, LEARNED),
    grad_input=lb.GemmSpec(PLAIN, LEARNED),
    grad_weight=lb.GemmSpec(PLAIN, LEARNED),
)
#: Learned scales forward, native gradients: torch's autograd on the fake-quantised tensors is the oracle.
FORWARD = lb.OpSpec(output=lb.GemmSpec(LEARNED, LEARNED), grad_input=None, grad_weight=None)
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "linear on three axes": (lambda: nn.Linear(6, 4), (2, 3, 6)),
    "conv without a batch": (lambda: nn.Conv2d(3, 4, 3), (3, 5, 5)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 5, 5)),
    "conv_transpose": (lambda: nn.ConvTranspose1d(3, 4, 3), (2, 3, 5)),
}


def converted(kind: str, spec: lb.OpSpec) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    native, shape = LAYERS[kind][0](), LAYERS[kind][1]
    return lb.convert(copy.deepcopy(native), [lb.Rule("*", spec)]), native, reals(1, *shape)


@pytest.mark.parametrize("kind", LAYERS)
def test_steps_start_at_lsqs_first_values(kind) -> None:
    layer, native, x = converted(kind, SPEC)
    assert set(dict(layer.named_parameters())) - set(dict(native.named_parameters())) == set(STEPS)
    layer(x)
    for step, tensor in ((layer.input_step, x), (layer.weight_step, native.weight)):
        expected = 2 * tensor.detach().double().abs().mean() / math.sqrt(7)
        assert step.numel() == 1
        assert float(step.detach()) == float(expected.float())


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_lsqs(kind) -> None:
    layer, native, x = converted(kind, FORWARD)
    x.requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    steps = [s.detach().clone().requires_grad_() for s in (layer.input_step, layer.weight_step)]
    again = x.detach().clone().requires_grad_()
    fake_x = learned_step(again, steps[0], lb.INT4)
    fake_w = learned_step(native.weight, steps[1], lb.INT4)
    state = {"weight": fake_w, "bias": native.bias}
    expected = torch.func.functional_call(native, state, (fake_x,))
    assert torch.allclose(y, expected, rtol=1e-5, atol=1e-5)
    expected.square().sum().backward()
    pairs = [
        (layer.weight.grad, native.weight.grad),
        (layer.input_step.grad, steps[0].grad),
        (layer.weight_step.grad, steps[1].grad),
        (x.grad, again.grad),
    ]
    for found, wanted in pairs:
        assert bool((found != 0).any())
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_operator_multiplies_the_learned_codes() -> None:
    from lowbit_sim.ops.capture import capture

    layer, native, x = converted("linear", SPEC)
    x.requires_grad_()
    with capture() as kept:
        layer(x).sum().backward()
    step = layer.input_step.detach()
    codes = torch.round(x.detach() * (1 / step)).clamp(-7, 7)
    output, grad_input, grad_weight = kept.gemms
    assert torch.equal(output.lhs[0].float(), codes)
    assert torch.equal(grad_weight.rhs[0].float(), codes)
    assert torch.equal(grad_input.rhs[0], output.rhs[0].t())


def test_training_adjusts_the_steps() -> None:
    layer, _, x = converted("linear", SPEC)
    target = reals(3, 5, 4)
    layer(x)
    before = [float(s.detach()) for s in (layer.input_step, layer.weight_step)]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    after = [float(s.detach()) for s in (layer.input_step, layer.weight_step)]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_restoring_takes_the_steps_away() -> None:
    layer, native, x = converted("linear", SPEC)
    layer(x)
    again = lb.restore(layer)
    assert again.state_dict().keys() == native.state_dict().keys()
    assert torch.equal(again(x), native(x))


def test_an_untrained_input_step_is_named() -> None:
    layer, _, x = converted("linear", SPEC)
    with pytest.raises(
        ValueError, match="input_step is 0: it gets its first value from a forward pass in training"
    ):
        layer.eval()(x)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            lb.OpSpec(output=None, grad_input=lb.GemmSpec(LEARNED, PLAIN), grad_weight=None),
            "scale of grad_output in grad_input can't be learned",
        ),
        (
            lb.OpSpec(
                output=lb.GemmSpec(PLAIN, PLAIN), grad_input=lb.GemmSpec(PLAIN, LEARNED), grad_weight=None
            ),
            "rhs of grad_input has a learned scale, so the same tensor",
        ),
        (
            lb.OpSpec(
                output=lb.GemmSpec(
                    lb.Quantizer(lb.INT4, scale=lb.LearnedScale(), granularity=lb.PerAxis(0)), PLAIN
                ),
                grad_input=None,
                grad_weight=None,
            ),
            r"a learned scale of an input is PerTensor\(\)",
        ),
    ],
)
def test_scales_that_can_not_be_learned_are_refused(spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        lb.convert(nn.Linear(3, 2), [lb.Rule("*", spec)])


def test_a_layer_that_can_not_learn_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="layer '' can't learn scales"):
        lb.convert(nn.LSTMCell(3, 2), [lb.Rule("*", SPEC)])


EMA = lb.Quantizer(lb.INT8, scale=lb.EmaScale(momentum=0.5))
REMEMBERING = lb.OpSpec(
    output=lb.GemmSpec(EMA, PLAIN),
    grad_input=lb.GemmSpec(
        lb.Quantizer(lb.INT4, scale=lb.EmaScale(), rounding=lb.Rounding("stochastic", random_bits=8)), PLAIN
    ),
    grad_weight=lb.GemmSpec(PLAIN, EMA),
)


def trained(model: nn.Module, steps: range) -> list[Tensor]:
    outputs = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in steps:
        optimizer.zero_grad()
        y = model(reals(step, 6, 5))
        y.square().mean().backward()
        optimizer.step()
        outputs.append(y.detach())
    return outputs


def remembering() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    return lb.convert(model, [lb.Rule("*", REMEMBERING)])


def test_a_resumed_model_goes_on_bit_for_bit(tmp_path) -> None:
    whole = trained(remembering(), range(6))
    model = remembering()
    trained(model, range(3))
    torch.save((model.state_dict(), emulation_state(model)), tmp_path / "checkpoint.pt")
    resumed = remembering()
    weights, state = torch.load(tmp_path / "checkpoint.pt")
    resumed.load_state_dict(weights)
    load_emulation_state(resumed, state)
    assert all(torch.equal(a, b) for a, b in zip(trained(resumed, range(3, 6)), whole[3:], strict=True))
    forgetful = remembering()
    forgetful.load_state_dict(weights)
    assert not all(torch.equal(a, b) for a, b in zip(trained(forgetful, range(3, 6)), whole[3:], strict=True))


def test_an_evaluation_moves_no_scale() -> None:
    model = remembering()
    trained(model, range(2))
    before = emulation_state(model)
    model.eval()(reals(9, 6, 5) * 100)
    after = emulation_state(model)
    assert before["random_steps"] == after["random_steps"]
    for path, places in before["scales"].items():
        for place, kept in places.items():
            assert torch.equal(kept["value"], after["scales"][path][place]["value"])


@pytest.mark.parametrize(
    ("state", "message"),
    [({}, "keys random_steps and scales"), ({"random_steps": {}, "scales": {"9": {}}}, "does not have: 9")],
)
def test_a_state_that_does_not_fit_is_refused(state, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_emulation_state(remembering(), state)
