"""DoReFa's levels against their formulas, and the constants of the paper's analysis."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.numerics.formats import CodebookFormat
from lowbit_sim.quant.dorefa_weights import (
    DoReFaLevels,
    Scheme,
    clamped,
    rescaling_factor,
    variance,
)

SCHEMES: tuple[Scheme, ...] = ("original", "modified", "centered")


def value(unit: float, bits: int, scheme: Scheme) -> float:
    """2 q_b(W~) - 1, as each scheme defines q_b."""
    if scheme == "original":
        return 2 * round((2**bits - 1) * unit) / (2**bits - 1) - 1
    level = min(math.floor(2**bits * unit), 2**bits - 1)
    return 2 * (level + (0.5 if scheme == "centered" else 0)) / 2**bits - 1


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.integers(1, 8), st.sampled_from(SCHEMES))
def test_integers_times_the_step_are_the_formula(units, bits, scheme):
    levels = DoReFaLevels(bits=bits, scheme=scheme)
    # In float64, in which no product here is rounded across a half.
    found = levels.integers(torch.tensor(units, dtype=torch.float64)) * levels.step
    assert found.tolist() == pytest.approx([value(u, bits, scheme) for u in units], abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_the_integers_are_the_formats_values_and_every_code_has_one(bits, scheme):
    levels = DoReFaLevels(bits=bits, scheme=scheme)
    found = levels.integers(torch.linspace(0, 1, 5000, dtype=torch.float64)).unique().tolist()
    fmt = levels.format
    assert fmt.bits == bits
    values = fmt.values if isinstance(fmt, CodebookFormat) else range(fmt.qmin, fmt.qmax + 1)
    assert found == list(values)
    assert len(found) == 2**bits
    assert max(abs(v) for v in found) * levels.step <= 1


def test_codes_of_the_modified_scheme_are_prefixes():
    """What AdaBits needs: the code of fewer bits is the code of more bits, cut off."""
    units = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = DoReFaLevels(bits=8, scheme="modified").integers(units) + 128
    for bits in (1, 2, 4, 7):
        narrow = DoReFaLevels(bits=bits, scheme="modified").integers(units) + 2 ** (bits - 1)
        assert torch.equal(narrow, torch.floor(wide / 2 ** (8 - bits)))


@functools.cache
def weights(outputs: int, inputs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(outputs, inputs, generator=generator) / math.sqrt(outputs)


@pytest.mark.parametrize(
    ("bits", "original", "floored", "modified_mean"),
    [
        (1, 26.2, 6.55, -0.499),
        (2, 2.93, 1.77, -0.250),
        (3, 1.18, 1.14, -0.125),
        (4, 1.04, 1.03, -0.062),
        (8, 1, 1, -0.004),
    ],
)
def test_what_rounding_does_to_variance_and_mean(bits, original, floored, modified_mean):
    """Of Gaussian weights [1000, 1280], over the variance of the clamped ones.

    With few levels the ratio hangs on the largest of the weights, and so on the draw.
    """
    w = weights(1000, 1280)
    unit, before = clamped(w) / 2 + 0.5, variance(clamped(w))
    expected = {"original": (original, 0.0), "modified": (floored, modified_mean), "centered": (floored, 0.0)}
    for scheme, (ratio, mean) in expected.items():
        levels = DoReFaLevels(bits=bits, scheme=scheme)
        quantized = levels.integers(unit) * levels.step
        assert float(variance(quantized) / before) == pytest.approx(ratio, rel=0.2 if bits <= 2 else 0.03)
        assert float(quantized.double().mean()) == pytest.approx(mean, abs=2e-3)


@pytest.mark.parametrize(
    ("inputs", "outputs", "ratio"), [(64, 10, 1.5), (512, 100, 5.8), (1280, 1000, 37.5), (2048, 1000, 38.1)]
)
def test_it_is_the_clamp_that_spreads_the_weights_of_wide_heads(inputs, outputs, ratio):
    """VAR[clamped] / VAR[W] where VAR[W] is 1 / outputs; it depends on the largest of the weights, so on the draw."""
    w = weights(outputs, inputs)
    assert float(variance(clamped(w)) / variance(w)) == pytest.approx(ratio, rel=0.3)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_constant_rescaling_makes_the_variance_one_over_the_neurons(bits, scheme):
    levels, w = DoReFaLevels(bits=bits, scheme=scheme), weights(100, 64)
    quantized = levels.integers(clamped(w) / 2 + 0.5) * levels.step
    factor = rescaling_factor("constant", w, quantized, 100)
    assert float(variance(quantized * factor)) * 100 == pytest.approx(1, abs=1e-6)
    same = rescaling_factor("stddev", w, quantized, 100)
    assert float(variance(quantized * same)) == pytest.approx(float(variance(w)), rel=1e-6)
    assert float(rescaling_factor("none", w, quantized, 100)) == 1


def test_weights_on_one_level_keep_it():
    assert float(rescaling_factor("constant", torch.zeros(3), torch.full((3,), 0.5), 10)) == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bits": 0}, "1 to 16 bits, got bits=0"),
        ({"bits": 17}, "1 to 16 bits, got bits=17"),
        ({"bits": 4, "scheme": "centred"}, "unknown scheme .* 'centred': .*did you mean 'centered'"),
    ],
)
def test_what_can_not_be_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        DoReFaLevels(**keys)
