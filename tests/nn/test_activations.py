"""Activations of a rule: layers round what they put out and hand back, after the bias, by torch's own casts."""

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb

BF16 = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))
FP8 = lb.Quantizer(lb.FP8_E5M2, scale=lb.FixedScale(1.0))
SPEC = lb.OpSpec.uniform(lb.INT8)
ROUNDED = lb.ElementwiseSpec(output=BF16, grad_input=FP8, grad_output=BF16)


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).float()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))


LAYERS = {
    "Linear": (lambda: nn.Linear(6, 8), (5, 6)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), (2, 2, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_s_result_and_gradients_are_rounded(name) -> None:
    make, shape = LAYERS[name]
    layer = make()
    plain = lb.convert(make(), [lb.Rule("*", SPEC)])
    plain.load_state_dict(layer.state_dict())
    mine = lb.convert(layer, [lb.Rule("*", SPEC, ROUNDED)])
    x = values(*shape).requires_grad_()
    y, z = plain(x), mine(x)
    g = values(*y.shape, seed=1)
    assert torch.equal(z, bf16(y))
    expected = torch.autograd.grad(y, (x, *plain.parameters()), bf16(g))
    got = torch.autograd.grad(z, (x, *mine.parameters()), g)
    assert torch.equal(got[0], expected[0].to(torch.float8_e5m2).float())
    assert not torch.equal(got[0], expected[0])
    assert all(torch.equal(a, b) for a, b in zip(got[1:], expected[1:], strict=True))


def test_the_gradient_of_a_result_is_rounded_as_a_sum() -> None:
    """Not its parts: bfloat16 has 1 + 2^-7 for 1 + 3 2^-9, but 3 + 2^-6 for three times as much."""
    mine = lb.convert(nn.Tanh(), [lb.Rule("*", lb.ElementwiseSpec(grad_output=BF16))])
    native, x, part = nn.Tanh(), values(7).requires_grad_(), torch.full((7,), 1 + 3 * 2**-9)
    z, y = mine(x), native(x)
    (got,) = torch.autograd.grad((z * part).sum() + (z * 2 * part).sum(), x)
    (expected,) = torch.autograd.grad(y, x, bf16(3 * part))
    assert torch.equal(got, expected)
    assert not torch.equal(bf16(3 * part), bf16(part) + bf16(2 * part))


def test_modules_without_gemms_are_in_the_rule() -> None:
    model = lb.convert(net(), [lb.Rule("2", None), lb.Rule("*", SPEC, ROUNDED)])
    assert [str(layer.numerics) for layer in lb.summary(model)] == [
        f"{SPEC}, activations ({ROUNDED})",
        str(ROUNDED),
        "native",
    ]
    x = values(5, 6)
    gelu = dict(model.named_modules())["1"]
    assert torch.equal(gelu(x), bf16(nn.functional.gelu(x)))


def test_restored_models_round_nothing() -> None:
    native = net()
    model = lb.restore(lb.convert(net(), [lb.Rule("*", SPEC, ROUNDED)]))
    x = values(5, 6)
    assert torch.equal(model(x), native(x))


def test_random_bits_of_layers_are_saved_and_drawn_anew_each_step() -> None:
    drawn = lb.Quantizer(
        lb.INT8, scale=lb.FixedScale(0.25), rounding=lb.Rounding("stochastic", random_bits=8)
    )
    model = lb.convert(net(), [lb.Rule("*", SPEC, lb.ElementwiseSpec(output=drawn))])
    x = values(50, 6)
    first, state = model(x), lb.random_steps(model)
    assert state == {"0": 1, "2": 1, "0#output": 1, "1": 1, "2#output": 1}
    second = model(x)
    assert not torch.equal(first, second)
    lb.set_random_steps(model, state)
    assert torch.equal(model(x), second)


@pytest.mark.parametrize(
    "spec", [None, ROUNDED, lb.FunctionalSpec(SPEC)], ids=["None", "element-wise", "functional"]
)
def test_activations_go_with_the_numerics_of_gemms(spec) -> None:
    with pytest.raises(ValueError, match="activations of rule '\\*' go with an OpSpec"):
        lb.Rule("*", spec, ROUNDED)


def test_activations_are_a_spec() -> None:
    with pytest.raises(TypeError, match="are an ElementwiseSpec or None"):
        lb.Rule("*", SPEC, BF16)  # type: ignore[arg-type]
