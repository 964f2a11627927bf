"""DoReFa's gradient quantiser: levels, distribution against the paper's formula, mean and variance."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.quant.gradient.dorefa import dorefa_format, dorefa_gradient
from tests.quant.cases import normal
from tests.quant.gradient.cases import assert_unbiased, moments, neighbours, z_scores

VALUES = [3.0, -3.0, 0.0, 1.0, -1.0, 0.5, 2.9, -2.9, 1e-3, -0.3, 1.7, 2.0, -2.0, 0.125]


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_levels(bits: int) -> None:
    fmt = dorefa_format(bits)
    assert len(fmt.values) == 1 << bits
    assert fmt.bits == bits
    top = (1 << bits) - 1
    assert list(fmt.values) == [2 * i - top for i in range(1 << bits)]
    assert fmt.unit == 1.0


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("random_bits", [1, 4, 5])
def test_mean_and_variance_over_all_words(bits: int, random_bits: int) -> None:
    fmt = dorefa_format(bits)
    for m in moments(dorefa_gradient(bits, random_bits=random_bits), VALUES, copies=600):
        y = max(min(m.scaled, Fraction(fmt.max_value)), -Fraction(fmt.max_value))
        low, high = neighbours(fmt, y)
        cut = Fraction(high - low, 1 << random_bits)
        # Towards the level of smaller magnitude, by less than 2^-r of a step; exact where r bits hold the fraction.
        assert abs(m.mean - y) < max(cut, Fraction(1, 1 << 40))
        assert abs(m.mean) <= abs(y) or abs(low) == abs(high)
        if high > low and ((y - low) / cut).denominator == 1:
            assert m.mean == y
        assert abs(m.variance - (y - low) * (high - y)) <= cut * (high - low)
        assert m.variance <= 1


@pytest.mark.parametrize("bits", [2, 4])
def test_the_papers_formula_takes_the_upper_level_as_often(bits: int) -> None:
    random_bits = 6
    words, steps = 1 << random_bits, (1 << bits) - 1
    largest = max(map(abs, VALUES))
    for value, m in zip(
        VALUES, moments(dorefa_gradient(bits, random_bits=random_bits), VALUES, 1200), strict=True
    ):
        paper = []
        for word in range(words):
            noise = ((word + 0.5) / words - 0.5) / steps
            inside = min(max(value / (2 * largest) + 0.5 + noise, 0.0), 1.0)
            paper.append(2 * largest * (math.floor(inside * steps + 0.5) / steps - 0.5))
        scale = largest / steps
        ours = sorted(float(v) * scale for v in m.outcomes)
        # The same two levels; their counts differ by the cut to r bits, which is one word.
        different = sum(abs(a - b) > 1e-6 for a, b in zip(sorted(paper), ours, strict=True))
        assert different <= 1


def test_each_sample_has_its_own_maximum() -> None:
    x = normal((4, 50), seed=1)
    x *= torch.tensor([[1.0], [100.0], [1e-4], [0.0]])
    q = dorefa_gradient(3)(x, stream=lb.Stream(seed=1))
    assert torch.equal(q.scale[:3], x.abs().amax(1, keepdim=True)[:3] / torch.tensor(7.0))
    assert q.dequantize().abs().amax(1).tolist()[:3] == pytest.approx(x.abs().amax(1).tolist()[:3], rel=1e-6)


def test_zeros_become_next_to_nothing() -> None:
    x = torch.zeros(2, 8)
    x[1] = 1.0
    values = dorefa_gradient(2)(x, stream=lb.Stream(seed=2)).dequantize()
    assert values[0].abs().max() <= 2.0**-126
    assert torch.equal(values[1], x[1])


def test_unbiased_on_a_tensor() -> None:
    x = normal((8, 40), seed=3, spread=0.5)
    quantizer = dorefa_gradient(4, random_bits=16)
    samples = np.stack(
        [quantizer(x, stream=lb.Stream(seed=4, step=s)).dequantize().double().numpy() for s in range(400)]
    )
    scale = quantizer(x, stream=lb.Stream(seed=4)).scale.double().numpy()
    y = x.double().numpy() / scale
    low = np.clip(2 * np.floor((y - 1) / 2) + 1, -15, 13)
    variance = np.clip((y - low) * (low + 2 - y), 0, None) * scale**2
    variance[variance < 1e-6 * scale.max() ** 2] = 0
    assert_unbiased(z_scores(samples, x.double().numpy(), variance))


@pytest.mark.parametrize("bits", [0, 17, 2.5, True])
def test_widths_out_of_range(bits) -> None:
    with pytest.raises(ValueError, match="1 to 16 bits"):
        dorefa_gradient(bits)
