"""PTQ, PSQ and BHQ: exact means, variances against closed forms, and the experiment with one large row."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.quant.gradient.statquant import bhq, psq, ptq
from tests.quant.cases import normal
from tests.quant.gradient.cases import assert_unbiased, moments, z_scores
from tests.quant.test_householder import matrix_of

RANGES = [[-0.4, 14.6, 3.3, 0.0], [1.0, 2.0, 1.3, 1.7], [-5.0, -1.0, -2.2], [-1.0, 1.0, 1e-4, -0.33, 0.999]]


@pytest.mark.parametrize("values", RANGES)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("random_bits", [1, 4])
def test_mean_and_variance_over_all_words(values: list[float], bits: int, random_bits: int) -> None:
    for m in moments(psq(bits, random_bits=random_bits), values):
        low = m.scaled.numerator // m.scaled.denominator
        fraction = m.scaled - low
        # Nothing is clipped, the ends included: the mean is cut downwards to r bits and no more.
        assert set(m.outcomes) <= {Fraction(low), Fraction(low + 1)}
        assert m.mean == low + Fraction(int(fraction * 2**random_bits), 2**random_bits)
        assert 0 <= m.scaled - m.mean < Fraction(1, 2**random_bits)
        assert abs(m.variance - fraction * (1 - fraction)) <= Fraction(1, 2**random_bits)
        assert m.variance <= Fraction(1, 4)


def closed_form(x: torch.Tensor, q: lb.QTensor) -> np.ndarray:
    """step^2 f (1 - f) of every element."""
    step = q.scale.double().numpy()
    y = (x * (1.0 / q.scale)).double().numpy()
    fraction = y - np.floor(y)
    return np.broadcast_to(step**2, y.shape) * fraction * (1 - fraction)


def samples_of(quantizer: lb.Quantizer, x: torch.Tensor, count: int) -> np.ndarray:
    values = [
        quantizer(x, stream=lb.Stream(seed=8, step=s)).dequantize().double().numpy() for s in range(count)
    ]
    return np.stack(values)


@pytest.mark.parametrize("quantizer", [ptq(4, random_bits=16), psq(4, random_bits=16)], ids=["ptq", "psq"])
def test_unbiased_with_the_closed_forms_variance(quantizer: lb.Quantizer) -> None:
    x = normal((16, 32), seed=1, spread=0.3)
    variance = closed_form(x, quantizer(x, stream=lb.Stream(seed=0)))
    variance[variance < 1e-3 * variance.max()] = 0
    samples = samples_of(quantizer, x, 500)
    assert_unbiased(z_scores(samples, x.double().numpy(), variance))
    assert samples.var(0)[variance > 0].sum() == pytest.approx(variance.sum(), rel=0.03)


def test_the_bounds_on_the_variance() -> None:
    x = normal((16, 64), seed=2)
    x[3] *= 50
    ranges = (x.clamp(min=0).amax(1) - x.clamp(max=0).amin(1)).double().numpy()
    for bits in (3, 4, 8):
        steps = (1 << bits) - 2
        per_sample = closed_form(x, psq(bits)(x, stream=lb.Stream(seed=0))).sum()
        assert per_sample <= (1 + 2**-20) * 64 / (4 * steps**2) * (ranges**2).sum()
        per_tensor = closed_form(x, ptq(bits)(x, stream=lb.Stream(seed=0))).sum()
        assert per_tensor <= (1 + 2**-20) * 16 * 64 / (4 * steps**2) * ranges.max() ** 2
        assert per_sample < per_tensor


def outlier_row(seed: int) -> torch.Tensor:
    """32 samples of 256 elements, one of them 1000 times larger than the others."""
    x = normal((32, 256), seed=seed) * 1e-3
    x[5] *= 1000
    return x


def bhq_samples(x: torch.Tensor, bits: int, count: int) -> np.ndarray:
    transform, quantizer = bhq(bits, random_bits=16)
    mixed, _, undo = transform.forward(x, torch.zeros(x.shape[1], 1))
    values = [undo(quantizer(mixed, stream=lb.Stream(seed=9, step=s)).dequantize()) for s in range(count)]
    return torch.stack(values).double().numpy()


def bhq_variance(x: torch.Tensor, bits: int) -> np.ndarray:
    """The variance of each element of S^-1 Q(S x), from that of S x: columns of S^-1 squared."""
    transform, quantizer = bhq(bits)
    mixed, _, _ = transform.forward(x, torch.zeros(x.shape[1], 1))
    inside = closed_form(mixed, quantizer(mixed, stream=lb.Stream(seed=0)))
    return np.linalg.inv(matrix_of(x.double().numpy())) ** 2 @ inside


def test_bhq_is_unbiased_with_the_closed_forms_variance() -> None:
    x = normal((12, 24), seed=4, spread=1.0)
    samples, variance = bhq_samples(x, 4, 500), bhq_variance(x, 4)
    scores = z_scores(samples, x.double().numpy(), variance)
    # Rows of a group share errors, so the scores are not independent: 24 columns of 12 rows count for fewer.
    assert abs(scores.mean()) < 4 / np.sqrt(24)
    assert np.abs(scores).max() < 6
    assert samples.var(0).sum() == pytest.approx(variance.sum(), rel=0.03)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_large_row_among_small_ones(seed: int) -> None:
    """Chen et al. 2020: with one outlier of N rows BHQ's variance is about 1 / N of PSQ's."""
    x = outlier_row(seed)
    energy = {
        "ptq": ((samples_of(ptq(4), x, 20) - x.double().numpy()) ** 2).sum((1, 2)).mean(),
        "psq": ((samples_of(psq(4), x, 20) - x.double().numpy()) ** 2).sum((1, 2)).mean(),
        "bhq": ((bhq_samples(x, 4, 20) - x.double().numpy()) ** 2).sum((1, 2)).mean(),
    }
    assert energy["bhq"] < energy["psq"] < energy["ptq"]
    assert 20 < energy["psq"] / energy["bhq"] < 40
    assert energy["bhq"] == pytest.approx(bhq_variance(x, 4).sum(), rel=0.05)
    # The outlier's 256 elements at a step of a fourteenth of its range, a sixth of step^2 on average.
    step = float(x[5].max() - x[5].min()) / 14
    assert energy["psq"] == pytest.approx(256 * step**2 / 6, rel=0.1)


@pytest.mark.parametrize("bits", [1, 17])
def test_widths_out_of_range(bits: int) -> None:
    for factory in (ptq, psq, bhq):
        with pytest.raises(ValueError, match="2 to 16 bits"):
            factory(bits)
