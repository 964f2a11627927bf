import math
from statistics import NormalDist

import pytest
import torch

from lowbit_sim.quant.distributions import DISTRIBUTIONS, magnitudes

SPREADS = {"lognormal": 1.5}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_magnitudes_ascend_to_one(name):
    x = magnitudes(name, spread=SPREADS.get(name), elements=1000)
    assert x.shape == (1000,)
    assert x[-1] == 1.0
    assert x[0] > 0
    assert bool((x.diff() > 0).all())


@pytest.mark.parametrize(
    ("name", "quantile"),
    [
        ("uniform", lambda p: p),
        ("normal", lambda p: NormalDist().inv_cdf((1 + p) / 2)),
        ("laplace", lambda p: -math.log(1 - p)),
        ("lognormal", lambda p: math.exp(1.5 * NormalDist().inv_cdf(p))),
    ],
)
def test_they_are_the_quantiles(name, quantile):
    x = magnitudes(name, spread=SPREADS.get(name), elements=64)
    largest = quantile(63.5 / 64)
    assert x.tolist() == pytest.approx([quantile((i + 0.5) / 64) / largest for i in range(64)], rel=1e-9)


def test_the_largest_of_more_elements_is_further_out():
    few, many = (magnitudes("normal", elements=n).median() for n in (100, 100_000))
    assert many < few < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"distribution": "gaussian"},
            "unknown distribution 'gaussian': known are laplace, lognormal, normal, uniform",
        ),
        (
            {"distribution": "lognormal", "spread": None},
            "spread goes with 'lognormal'.*got None for 'lognormal'",
        ),
        ({"spread": 1.0}, "spread goes with 'lognormal', and only with it: got 1.0 for 'normal'"),
        ({"distribution": "lognormal", "spread": 0.0}, "spread is above 0"),
        ({"elements": 1}, "elements is from 16"),
    ],
)
def test_what_can_not_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        magnitudes(**{"distribution": "normal", **changes})


def test_the_lognormal_ones_have_the_spread():
    logs = magnitudes("lognormal", spread=2.0, elements=65536).log()
    assert torch.std(logs).item() == pytest.approx(2.0, rel=1e-3)
