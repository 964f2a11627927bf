"""Codebook gradients: mean and variance over all random words, clipping, and both backward GEMMs."""

from fractions import Fraction

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.quant.codebook import grid_codebook
from lowbit_sim.quant.gradient.codebook import codebook_gradient
from tests.quant.cases import normal
from tests.quant.gradient.cases import moments, neighbours

FITTED = grid_codebook(normal((5000,), seed=1, spread=1.0), 15)
VALUES = [1.0, -1.0, 0.0, 0.01, -0.2, 0.33, 0.75, -0.97, 1e-5]


@pytest.mark.parametrize("random_bits", [1, 4, 6])
@pytest.mark.parametrize("values", [FITTED.values, (-3.0, -1.0, 0.25, 3.0)], ids=["fitted", "own"])
def test_mean_and_variance_over_all_words(values, random_bits):
    for m in moments(codebook_gradient(values, random_bits=random_bits), VALUES, copies=1200):
        low, high = neighbours(lb.CodebookFormat(values=values), m.scaled)
        cut = Fraction(high - low, 1 << random_bits)
        assert set(m.outcomes) <= {low, high}
        assert abs(m.scaled - m.mean) < max(cut, Fraction(1, 1 << 40))
        if high > low and ((m.scaled - low) / cut).denominator == 1:
            assert m.scaled == m.mean
        assert abs(m.variance - (m.scaled - low) * (high - m.scaled)) <= cut * (high - low)


def test_the_top_is_what_the_largest_magnitude_becomes():
    g = torch.tensor([10.0, -5.0, 1.0])
    nearest = codebook_gradient((-60.0, -10.0, 0.0, 10.0, 60.0), top=127.0, random_bits=0)(g)
    assert nearest.scale.item() == pytest.approx(10 / 127)
    assert nearest.codes.tolist() == [4, 0, 3]
    whole = codebook_gradient((-60.0, -10.0, 0.0, 10.0, 60.0), random_bits=0)(g)
    assert whole.dequantize()[0].item() == pytest.approx(10.0)


def test_fifteen_levels_have_codes_of_four_bits_and_an_integer_accumulator():
    quantizer = codebook_gradient(FITTED.values, top=FITTED.top)
    assert quantizer.element_format.bits == 4
    int8 = lb.Quantizer(lb.INT8)
    assert isinstance(lb.GemmSpec(quantizer, int8).mac, lb.MacUnit)
    assert str(quantizer) == "codebook15 stochastic"


def test_gemms_multiply_the_levels():
    """Both backward GEMMs, against float64 products of the dequantised operands."""
    int8, gradient = lb.Quantizer(lb.INT8), codebook_gradient(FITTED.values, top=FITTED.top, random_bits=0)
    backward = lb.GemmSpec(gradient, int8)
    spec = lb.OpSpec(output=lb.GemmSpec(int8, int8), grad_input=backward, grad_weight=backward)
    layer = lb.convert(torch.nn.Linear(6, 4, bias=False), [lb.Rule("*", spec)])
    x, g = normal((5, 6), seed=2).requires_grad_(), normal((5, 4), seed=3)
    layer(x).backward(g)
    level = gradient(g).dequantize().double()
    weight = int8(layer.weight.detach()).dequantize().double()
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert torch.allclose(x.grad.double(), level @ weight, rtol=1e-5, atol=1e-6)
    expected = level.t() @ int8(x.detach()).dequantize().double()
    assert torch.allclose(layer.weight.grad.double(), expected, rtol=1e-5, atol=1e-6)


def test_what_can_not_be_is_refused():
    with pytest.raises(ValueError, match="ascend strictly"):
        codebook_gradient((0.0, 1.0, 1.0))
    for one_sign in ((1.0, 2.0), (0.0, 1.0), (-2.0, -1.0), (-1.0, 0.0)):
        with pytest.raises(ValueError, match="levels below and above zero, got levels from"):
            codebook_gradient(one_sign)
    with pytest.raises(ValueError, match="top is a positive finite number"):
        codebook_gradient((-1.0, 1.0), top=0.0)
    with pytest.raises(ValueError, match="random_bits"):
        codebook_gradient((-1.0, 1.0), random_bits=-1)
