import pytest
import torch

from lowbit_sim.ghn.fake_quantization import fake_quantize, with_noise
from lowbit_sim.ghn.precision import activation_quantizer, weight_quantizer
from lowbit_sim.quant.quantizer import NotANumberError
from lowbit_sim.trace import record

QUANTIZERS = [weight_quantizer(2), weight_quantizer(4), activation_quantizer(4), activation_quantizer(8)]


def tensor(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_the_values_are_those_of_the_codes(quantizer):
    x = tensor()
    q = quantizer(x)
    assert torch.equal(fake_quantize(x, quantizer), q.dequantize())


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_a_fake_quantised_tensor_has_the_same_codes_again(quantizer):
    """What an emulated layer makes of it: no element moves to another code."""
    for seed in range(20):
        x = tensor(seed)
        assert torch.equal(quantizer(fake_quantize(x, quantizer)).codes, quantizer(x).codes)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_the_gradient_passes_straight_through(quantizer):
    x, g = tensor().requires_grad_(), tensor(1)
    fake_quantize(x, quantizer).backward(g)
    assert torch.equal(x.grad, g)


@pytest.mark.parametrize("change", [fake_quantize, with_noise])
def test_without_a_quantiser_it_is_the_tensor_itself(change):
    x = tensor()
    assert change(x, None) is x


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_noise_is_uniform_within_half_a_step_to_either_side(quantizer):
    x = torch.linspace(-1, 2, 20_000)
    torch.manual_seed(0)
    noise = (with_noise(x, quantizer) - x) / quantizer(x).scale.flatten()
    assert float(noise.abs().max()) <= 0.5 + 1e-3
    # Mean 0 and variance 1/12, each within four standard deviations of its estimate over 20,000 draws.
    assert abs(float(noise.mean())) < 4 * (1 / 12 / 20_000) ** 0.5
    assert float(noise.var()) == pytest.approx(1 / 12, abs=4 * (1 / 180 / 20_000) ** 0.5)


def test_noise_has_the_gradient_of_the_tensor():
    x, g = tensor().requires_grad_(), tensor(1)
    with_noise(x, weight_quantizer(4)).backward(g)
    assert torch.equal(x.grad, g)


def bias_of_noise(bits: int) -> tuple[float, float]:
    """How far the mean of tanh(x (w + n)) over 2,000 draws of noise, and one draw, are from tanh(x w)."""
    torch.manual_seed(0)
    w, x, quantizer = torch.randn(8, 8), torch.randn(64, 8), weight_quantizer(bits)
    exact = torch.tanh(x @ w)
    noisy = torch.stack([torch.tanh(x @ with_noise(w, quantizer)) for _ in range(2000)])
    return float((noisy.mean(0) - exact).abs().mean()), float((noisy[0] - exact).abs().mean())


def test_the_mean_over_noise_is_the_float_result_to_first_order():
    """E f(w + n) = f(w) + O(s^2): a step half as wide has about a quarter of the bias, and half of a draw's error."""
    (wide, wide_draw), (narrow, narrow_draw) = bias_of_noise(5), bias_of_noise(6)
    assert wide < 0.2 * wide_draw
    assert 1.8 < wide_draw / narrow_draw < 2.4
    assert 3 < wide / narrow < 5.5


def test_nan_is_refused():
    with pytest.raises(NotANumberError):
        fake_quantize(torch.tensor([1.0, float("nan")]), weight_quantizer(4))


def test_both_put_their_passes_on_record():
    x = tensor()
    with record() as rounded:
        fake_quantize(x, weight_quantizer(4), layer="a")
    with record() as noisy:
        with_noise(x, weight_quantizer(4), layer="a")
    assert [(e.kind, e.elements, e.layer) for e in rounded.vectors] == [
        ("scale_reduction", 30, "a"),
        ("quantize", 30, "a"),
    ]
    assert [(e.kind, e.random_bits) for e in noisy.vectors] == [("scale_reduction", 0), ("random_bits", 960)]
