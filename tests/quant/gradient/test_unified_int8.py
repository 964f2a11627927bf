"""Direction-sensitive clipping: the clip is where the angle is smallest, and the mean is the clipped gradient."""

from fractions import Fraction
from math import floor

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.quant.gradient.unified_int8 import direction_sensitive
from tests.quant.cases import normal
from tests.quant.gradient.cases import moments


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum() / (a.double().norm() * b.double().norm()))


@pytest.mark.parametrize("bits", [3, 4])
def test_a_long_tail_is_clipped_for_a_smaller_angle(bits: int) -> None:
    x = normal((4000,), seed=1, spread=0.8)
    clipped = direction_sensitive(bits)(x, stream=lb.Stream(seed=2))
    whole = lb.Quantizer(lb.IntFormat(bits=bits), rounding=clipped_rounding())(x, stream=lb.Stream(seed=2))
    assert clipped.scale.item() < whole.scale.item()
    assert cosine(clipped.dequantize(), x) > cosine(whole.dequantize(), x)


def clipped_rounding() -> lb.Rounding:
    return direction_sensitive().rounding


def test_the_mean_is_the_clipped_gradient() -> None:
    values = [0.1, -0.2, 0.3, 0.11, -0.05, 0.2, 0.4, 3.0, -0.9]
    quantizer = direction_sensitive(3, random_bits=4)
    for m in moments(quantizer, values, copies=300):
        clipped = max(min(m.scaled, Fraction(3)), Fraction(-3))
        assert 0 <= clipped - m.mean < Fraction(1, 16)


def test_the_variance_is_that_of_the_clipped_gradient() -> None:
    """(y - floor(y)) (ceil(y) - y) of y cut to the random bits, over all random words; 0 beyond the clip."""
    values = [0.1, -0.2, 0.3, 0.11, -0.05, 0.2, 0.4, 3.0, -0.9]
    varied = 0
    for m in moments(direction_sensitive(3, random_bits=4), values, copies=300):
        clipped = max(min(m.scaled, Fraction(3)), Fraction(-3))
        cut = Fraction(floor(clipped * 16), 16)
        fraction = cut - floor(cut)
        assert m.variance == fraction * (1 - fraction)
        varied += m.variance > 0
    assert varied > 3


def test_the_papers_period() -> None:
    quantizer, state = direction_sensitive(8, period=100), lb.ScaleState()
    assert quantizer.is_stateful
    first = quantizer(normal((500,), seed=3), stream=lb.Stream(seed=4), state=state)
    second = quantizer(normal((500,), seed=5), stream=lb.Stream(seed=4), state=state)
    assert torch.equal(first.scale, second.scale)
    assert not direction_sensitive().is_stateful
