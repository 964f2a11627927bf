"""LUQ: levels, mean and variance over all random words, underflow, samples, maximum in hindsight."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.numerics.reference import decode_value
from lowbit_sim.quant.gradient.luq import luq
from tests.quant.cases import normal
from tests.quant.gradient.cases import assert_unbiased, moments, neighbours, z_scores

#: With the maximum 64 and b = 3 the levels are 0 and 1 to 64.
VALUES = [64.0, -64.0, 0.0, 0.25, -0.5, 0.999, 1.0, 1.5, -3.0, 5.0, 40.0, -63.9, 1e-6, 33.3]


@pytest.mark.parametrize("exponent_bits", [2, 3, 4])
def test_levels_end_at_the_maximum(exponent_bits: int) -> None:
    fmt = luq(exponent_bits).format
    count = (1 << exponent_bits) - 1
    x = torch.linspace(-5, 5, 4001)
    q = luq(exponent_bits, random_bits=16)(x, stream=lb.Stream(seed=1))
    found = sorted({v for v in q.dequantize().abs().tolist() if v})
    # Every magnitude above the smallest is met; the largest is the maximum.
    assert found[-1] == 5.0
    assert found == [5.0 * 2.0**-k for k in range(len(found) - 1, -1, -1)]
    assert len(found) == min(count, len(found))
    assert fmt.bits == exponent_bits + 1
    magnitudes = {abs(decode_value(code, q.element_format)) for code in range(1 << fmt.bits)}
    assert len(magnitudes) == count + 1


@pytest.mark.parametrize("random_bits", [1, 4, 6])
@pytest.mark.parametrize("exponent_bits", [2, 3])
def test_mean_and_variance_over_all_words(exponent_bits: int, random_bits: int) -> None:
    quantizer = luq(exponent_bits, random_bits=random_bits)
    fmt = quantizer.element_format
    for m in moments(quantizer, VALUES, copies=1200):
        low, high = neighbours(fmt, m.scaled)
        cut = Fraction(high - low, 1 << random_bits)
        assert set(m.outcomes) <= {low, high}
        error = m.scaled - m.mean
        # Towards zero by less than 2^-r of the distance of the levels; exact where r bits hold the fraction.
        assert 0 <= error * (1 if m.scaled > 0 else -1) < max(cut, Fraction(1, 1 << 40))
        if high > low and ((m.scaled - low) / cut).denominator == 1:
            assert error == 0
        assert abs(m.variance - (m.scaled - low) * (high - m.scaled)) <= cut * (high - low)


def test_stochastic_underflow_keeps_small_gradients_in_the_mean() -> None:
    # The least level is 64 / 2^6 = 1: 0.25 becomes it for one word in four, and 0 otherwise. The format's own least
    # value is 1/4, its largest 16, so the scale is 4.
    (_, m) = moments(luq(random_bits=4), [64.0, 0.25], copies=400)
    assert sorted(m.outcomes) == [0] * 12 + [Fraction(1, 4)] * 4
    assert m.scaled == Fraction(1, 16)


def test_unbiased_on_a_tensor_and_smp_divides_the_variance() -> None:
    x = normal((40, 20), seed=2, spread=1.5)
    quantizer = luq(random_bits=16)
    scale = quantizer(x, stream=lb.Stream(seed=1)).scale.item()
    samples = np.stack(
        [quantizer(x, stream=lb.Stream(seed=3, operand=s)).dequantize().double().numpy() for s in range(600)]
    )
    y = np.abs(x.double().numpy()) / scale
    least = 0.25
    low = np.where(y < least, 0.0, 2.0 ** np.floor(np.log2(np.maximum(y, least))))
    high = np.where(y < least, least, 2 * low)
    variance = (y - low) * (high - y) * scale**2
    # Below 2^-16 of a step the cut to 16 bits would show.
    variance[(y - low < 1e-3 * (high - low)) | (y >= 16 * (1 - 1e-3))] = 0
    assert_unbiased(z_scores(samples, x.double().numpy(), variance))
    averages = samples.reshape(150, 4, 40, 20).mean(1)
    assert (averages.var(0).sum() / samples.var(0).sum()) == pytest.approx(0.25, rel=0.05)


def test_a_maximum_in_hindsight() -> None:
    quantizer, state = luq(momentum=0.5), lb.ScaleState()
    stream = lb.Stream(seed=5)
    x = normal((200,), seed=6)
    first = quantizer(x, stream=stream, state=state)
    direct = luq()(x, stream=stream)
    assert torch.equal(first.codes, direct.codes)
    assert torch.equal(first.scale, direct.scale)
    second = quantizer(3 * x, stream=stream, state=state)
    assert torch.equal(second.scale, first.scale)
    assert second.dequantize().abs().max() == pytest.approx(x.abs().max().item(), rel=1e-6)
    third = quantizer(x, stream=stream, state=state)
    assert third.scale.item() == pytest.approx(2 * first.scale.item(), rel=1e-6)
