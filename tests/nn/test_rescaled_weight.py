"""SAT's weights: the gradient, the integers in the GEMMs, and evaluation mode."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.nn.rescaled_weight import RescaledWeight, WeightRescaling, rescale_weight, rescaled_weight
from lowbit_sim.ops.capture import capture
from lowbit_sim.quant.dorefa_weights import DoReFaLevels, Scheme, clamped, variance
from tests.ops.captured import assert_definition
from tests.ops.cases import reals

INT8 = lb.OpSpec.uniform(lb.INT8)
SCHEMES: tuple[Scheme, ...] = ("original", "modified", "centered")
LAYERS = {"linear": (lambda: nn.Linear(6, 5), (4, 6)), "conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 6, 6))}


def rescaling(bits: int | None = 4, scheme: Scheme = "original", **keys) -> WeightRescaling:
    levels = None if bits is None else DoReFaLevels(bits=bits, scheme=scheme)
    return WeightRescaling(levels=levels, **keys)


def layer(kind: str = "linear", spec: lb.OpSpec | None = None, **keys) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    build, shape = LAYERS[kind]
    made = lb.convert(build(), [lb.Rule("*", spec)] if spec else [])
    rescale_weight(made, rescaling(**keys), "fc")
    return made, reals(1, *shape)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, None])
@pytest.mark.parametrize(("kind", "neurons"), [("linear", 5), ("conv", 4 * 9)])
def test_the_variance_of_what_is_multiplied_is_one_over_the_neurons(kind, neurons, bits, scheme):
    made, _ = layer(kind, bits=bits, scheme=scheme)
    assert float(variance(made.weight)) * neurons == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("maximum", ["differentiated", "constant"])
@pytest.mark.parametrize("kind", ["constant", "stddev", "none"])
def test_the_gradient_is_autograds_with_the_factor_a_constant(kind, maximum):
    w = reals(2, 7, 6).double().requires_grad_()
    g = reals(3, 7, 6).double()
    step = RescaledWeight(rescaling(3, kind=kind, maximum=maximum), 7)
    step(w).backward(g)
    other = w.detach().clone().requires_grad_()
    largest = torch.tanh(other).abs().max()
    unit = torch.tanh(other) / (2 * (largest if maximum == "differentiated" else largest.detach())) + 0.5
    rounded = unit + ((unit * 7).round() / 7 - unit).detach()
    ((2 * rounded - 1) * step.trained_factor(w.detach())).backward(g)
    torch.testing.assert_close(w.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_the_factor_has_no_gradient():
    """Finite differences of a loss with the factor frozen equal the gradient; with it following W they don't."""
    w = reals(4, 5, 4).double().requires_grad_()
    g = reals(5, 5, 4).double()
    step = RescaledWeight(rescaling(None), 5)
    step(w).backward(g)
    frozen = step.trained_factor(w.detach())

    def loss(moved: Tensor, factor: Tensor | None) -> float:
        c = step.trained_factor(moved) if factor is None else factor
        return float((clamped(moved) * c * g).sum())

    numeric = {}
    for name, factor in (("frozen", frozen), ("following", None)):
        slopes = torch.empty(w.numel(), dtype=torch.float64)
        for i in range(w.numel()):
            ends = []
            for sign in (1, -1):
                moved = w.detach().clone()
                moved.view(-1)[i] += sign * 1e-6
                ends.append(loss(moved, factor))
            slopes[i] = (ends[0] - ends[1]) / 2e-6
        numeric[name] = slopes.reshape(w.shape)
    torch.testing.assert_close(w.grad, numeric["frozen"], rtol=1e-6, atol=1e-8)
    assert not torch.allclose(w.grad, numeric["following"], rtol=1e-2)


def test_equal_largest_weights_share_what_is_the_maximums():
    w = torch.tensor([0.5, -0.5, 0.1], dtype=torch.float64, requires_grad=True)
    step = RescaledWeight(rescaling(None, kind="none"), 1)
    step(w).backward(torch.ones(3, dtype=torch.float64))
    other = w.detach().clone().requires_grad_()
    (torch.tanh(other) / torch.tanh(other).abs().amax()).sum().backward()
    torch.testing.assert_close(w.grad, other.grad)


def test_zeros_have_a_gradient():
    w = torch.zeros(3, 2, requires_grad=True)
    y = RescaledWeight(rescaling(4), 3)(w)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert w.grad.tolist() == [[1.0, 1.0]] * 3


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_gemms_multiply_the_formulas_integers(kind, bits, scheme):
    made, x = layer(kind, INT8, bits=bits, scheme=scheme)
    x.requires_grad_()
    original = made.parametrizations.weight.original.detach()
    levels = DoReFaLevels(bits=bits, scheme=scheme)
    expected = levels.integers(torch.tanh(original) / (2 * torch.tanh(original).abs().max()) + 0.5)
    with capture() as kept:
        made(x).square().sum().backward()
    output, grad_input, _ = kept.gemms
    laid = (
        expected if kind == "linear" else expected.permute(0, 2, 3, 1).flatten(1)
    )  # [O, K], channels innermost
    assert torch.equal(output.rhs[0].t().float(), laid)
    assert torch.equal(grad_input.rhs[0].float().flatten().sort().values, expected.flatten().sort().values)
    factor = rescaled_weight(made).trained_factor(original)
    assert [float(s) for s in output.rhs_scale] == [pytest.approx(levels.step * float(factor), rel=1e-6)]
    assert assert_definition(kept) == 3


@pytest.mark.parametrize("kind", LAYERS)
def test_an_emulated_layer_computes_what_a_native_one_does(kind):
    emulated, x = layer(kind, lb.OpSpec(output=INT8.output, grad_input=None, grad_weight=None))
    native, _ = layer(kind)
    outputs = []
    for made in (emulated, native):
        y = made(x)
        y.square().sum().backward()
        outputs.append((y, made.parametrizations.weight.original.grad))
    # The input is rounded to INT8 in the one and not in the other.
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=0, atol=0.05)
    torch.testing.assert_close(
        outputs[0][1], outputs[1][1], rtol=0, atol=0.05 * float(outputs[1][1].abs().max())
    )


@pytest.mark.parametrize("spec", [None, INT8], ids=["native", "emulated"])
@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_of_evaluation_without_the_factor_are_those_of_training_over_the_factor(kind, spec):
    made, x = layer(kind, spec, evaluation="unscaled")
    trained = made(x)
    made.eval()
    factor = rescaled_weight(made).trained_factor(made.parametrizations.weight.original.detach())
    evaluated = made(x)
    torch.testing.assert_close(evaluated * factor.float(), trained, rtol=1e-5, atol=1e-5)
    assert torch.equal(evaluated.argmax(1), trained.argmax(1))
    assert not torch.allclose(evaluated, trained, rtol=0.1)
    step = rescaled_weight(made).rescaling.levels.step
    levels = made.weight.detach() / step
    assert torch.allclose(levels, levels.round(), atol=1e-4)  # Q itself
    made.train()
    assert torch.equal(made(x), trained)


def test_by_default_evaluation_is_as_trained():
    made, x = layer()
    trained = made(x)
    assert torch.equal(made.eval()(x), trained)
    assert set(made.parametrizations) == {"weight"}


def test_optimisers_copies_and_state_dicts_keep_the_parameters():
    torch.manual_seed(0)
    made = nn.Linear(6, 5)
    weight, bias = made.weight, made.bias
    rescale_weight(made, rescaling(evaluation="unscaled"))
    assert {id(p) for p in made.parameters()} == {id(weight), id(bias)}
    twin = copy.deepcopy(made)
    with torch.no_grad():
        twin.parametrizations.weight.original.mul_(2).add_(0.3)
    twin.load_state_dict(made.state_dict())
    x = reals(1, 4, 6)
    for mode in (True, False):
        assert torch.equal(twin.train(mode)(x), made.train(mode)(x))
    assert rescaled_weight(twin) is not rescaled_weight(made)


def test_a_copy_of_an_emulated_layer_has_a_step_of_its_own():
    made, x = layer("linear", INT8)
    made(x)
    twin = copy.deepcopy(made)
    weight = next(p for p in twin.parameters() if p.ndim == 2)
    with torch.no_grad():
        weight[0, 0] = 5.0
    before = made(x)
    twin(x)
    assert torch.equal(made(x), before)


def test_the_passes_are_on_record():
    made, x = layer("linear", INT8)
    with lb.record() as trace:
        made(x).sum().backward()
    transforms = [e for e in trace.vectors if e.kind == "transform"]
    size = 30 * 4
    assert [(e.read_bytes, e.write_bytes) for e in transforms] == [(3 * size, size), (4 * size, size)]
    [quantized] = [e for e in trace.vectors if e.kind == "quantize" and e.parameter == "weight"]
    assert quantized.write_bytes == 30 * 4 // 8  # four bits each
    with lb.record() as trace, torch.no_grad():
        made.eval()(x)
    assert all(e.kind != "transform" for e in trace.vectors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer(kind="linear", maximum="detached"), "unknown maximum 'detached'"),
        (lambda: WeightRescaling(levels=None, kind="std"), "unknown rescaling of weights 'std'.*'stddev'"),
        (lambda: WeightRescaling(levels=None, evaluation="folded"), "unknown evaluation 'folded'"),
        (
            lambda: rescale_weight(layer()[0], rescaling(), "fc"),
            "weight of layer 'fc' is pre-processed already",
        ),
        (
            lambda: setattr(rescaled_weight(layer()[0]), "passes_uncalibrated", True),
            'give sat the key maximum = "constant"',
        ),
    ],
)
def test_what_can_not_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_transform_is_refused():
    hadamard = lb.HadamardTransform(4)
    gemm = lb.GemmSpec(lb.Quantizer(lb.INT8), lb.Quantizer(lb.INT8), transform=hadamard)
    made = lb.convert(
        nn.Linear(8, 4), [lb.Rule("*", lb.OpSpec(output=gemm, grad_input=None, grad_weight=None))]
    )
    with pytest.raises(ValueError, match="output: .* mixes the operands' elements"):
        rescale_weight(made, rescaling(), "fc")


def test_a_rescaled_weight_is_as_far_from_zero_as_a_default_one():
    """The point of it: a head of 1,000 classes has logits of the size that plain weights of this variance give."""
    torch.manual_seed(0)
    head = nn.Linear(256, 1000)
    nn.init.normal_(head.weight, std=1 / math.sqrt(1000))
    x = reals(2, 32, 256)
    plain = float(head(x).detach().var())
    rescale_weight(head, rescaling(2))
    assert float(head(x).detach().var()) == pytest.approx(plain, rel=0.2)
    rescaled_weight(head).rescaling = rescaling(2, kind="none")
    assert float(head(x).detach().var()) > 20 * plain
