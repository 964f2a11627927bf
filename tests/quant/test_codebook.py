"""Codebooks against brute force: no choice of levels has a smaller error."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.quant.codebook import MAX_POINTS, grid_codebook, real_codebook, squared_error
from tests.quant.cases import normal

#: Samples of at most this magnitude are whole numbers on the 4-bit grid, so that every sum is exact.
TOP = 7

numbers = st.lists(st.integers(-TOP, TOP), max_size=12)


def with_top(values: Iterable[int]) -> Tensor:
    return torch.tensor([float(TOP), *values])


def exact_error(x: Fraction, levels: list[Fraction], *, stochastic: bool) -> Fraction:
    """The definition: expected squared error of rounding one number to ascending levels."""
    if not levels[0] <= x <= levels[-1] or not stochastic:
        return min((x - v) ** 2 for v in levels)
    low, high = max(v for v in levels if v <= x), min(v for v in levels if v >= x)
    return (x - low) * (high - x)


def exact_sum(samples: Tensor, levels: Iterable[float], *, stochastic: bool) -> Fraction:
    ordered = sorted(map(Fraction, levels))
    return sum(
        (exact_error(Fraction(x), ordered, stochastic=stochastic) for x in samples.tolist()), Fraction(0)
    )


def all_codebooks(levels: int, *, stochastic: bool, symmetric: bool) -> Iterable[tuple[int, ...]]:
    """Every codebook of whole numbers that the conditions allow."""
    if symmetric:
        for half in combinations(range(1, TOP + 1), levels // 2):
            if not stochastic or half[-1] == TOP:
                yield (*(-v for v in reversed(half)), 0, *half)
        return
    for values in combinations(range(-TOP, TOP + 1), levels):
        if not stochastic or (values[0], values[-1]) == (-TOP, TOP):
            yield values


@given(
    numbers,
    st.sampled_from([(3, True), (5, True), (7, True), (2, False), (3, False), (4, False)]),
    st.booleans(),
)
def test_no_codebook_on_the_grid_is_better(values, shape, stochastic):
    levels, symmetric = shape
    samples = with_top(values)
    found = grid_codebook(samples, levels, value_bits=4, stochastic=stochastic, symmetric=symmetric)
    assert len(found.values) == levels
    least = min(
        exact_sum(samples, book, stochastic=stochastic)
        for book in all_codebooks(levels, stochastic=stochastic, symmetric=symmetric)
    )
    assert exact_sum(samples, found.values, stochastic=stochastic) == least
    assert found.error == pytest.approx(float(least) / len(samples) / TOP**2, rel=1e-12, abs=1e-15)
    assert found.top == TOP


def clusterings(points: list[Fraction], count: int) -> Iterable[list[list[Fraction]]]:
    """Every way to cut sorted numbers into so many runs that are not empty."""
    for cuts in combinations(range(1, len(points)), count - 1):
        borders = [0, *cuts, len(points)]
        yield [points[a:b] for a, b in zip(borders, borders[1:], strict=False)]


def scatter(run: list[Fraction], centre: Fraction | None = None) -> Fraction:
    centre = sum(run, Fraction(0)) / len(run) if centre is None else centre
    return sum(((x - centre) ** 2 for x in run), Fraction(0))


@given(st.lists(st.integers(-64, 64), min_size=5, max_size=9, unique=True), st.integers(2, 5))
def test_lloyd_max_is_the_best_of_all_clusterings(values, levels):
    samples = torch.tensor([float(v) for v in values])
    found = real_codebook(samples, levels, stochastic=False, symmetric=False)
    largest = max(map(abs, values))
    points = sorted(Fraction(v, largest) for v in values)
    least = min(sum(map(scatter, runs)) for runs in clusterings(points, levels))
    assert found.error == pytest.approx(float(least) / len(points), rel=1e-6, abs=1e-12)
    assert found.values == tuple(sorted(set(found.values)))


@given(st.lists(st.integers(1, 64), min_size=4, max_size=8, unique=True), st.sampled_from([3, 5]))
def test_a_symmetric_lloyd_max_has_a_cluster_around_zero(values, levels):
    samples = torch.tensor([float(v) for v in values]) * torch.tensor([1.0, -1.0]).repeat(4)[: len(values)]
    found = real_codebook(samples, levels, stochastic=False)
    points = sorted(Fraction(v, max(values)) for v in values)
    least = min(
        scatter(points[:near], Fraction(0)) + sum(map(scatter, runs))
        for near in range(len(points))
        for runs in clusterings(points[near:], levels // 2)
    )
    assert found.error == pytest.approx(float(least) / len(points), rel=1e-6, abs=1e-12)
    assert found.values == tuple(-v for v in reversed(found.values))
    assert found.values[levels // 2] == 0.0


@pytest.mark.parametrize("symmetric", [True, False])
def test_stochastic_levels_at_samples_are_as_good_as_any(symmetric):
    """Moving any level anywhere between its neighbours never helps, nor does any of many random codebooks."""
    samples = normal((40,), seed=3)
    scaled = samples.double() / samples.abs().max()
    found = real_codebook(samples, 5, symmetric=symmetric)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        inner = np.sort(rng.choice(scaled.abs().numpy(), 1) if symmetric else rng.uniform(-1, 1, 3))
        values = (-1.0, -inner[0], 0.0, inner[0], 1.0) if symmetric else (-1.0, *inner, 1.0)
        assert squared_error(scaled, tuple(map(float, values)), stochastic=True) >= found.error - 1e-9
    assert found.error == squared_error(scaled, found.values, stochastic=True)
    assert {-1.0, 1.0} <= set(found.values)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=10), st.booleans())
def test_the_expected_error_is_the_definition_s(values, stochastic):
    samples, levels = torch.tensor([v / 4 for v in values]), (-7.0, -2.0, 0.0, 0.5, 3.0)
    expected = exact_sum(samples, levels, stochastic=stochastic) / len(values)
    assert squared_error(samples, levels, stochastic=stochastic) == pytest.approx(float(expected), rel=1e-12)


def test_the_variance_is_that_of_the_quantiser_itself():
    import lowbit_sim as lb

    samples = normal((400,), seed=9, spread=1.0)
    book = grid_codebook(samples, 15)
    quantizer = lb.codebook_gradient(book.values, top=book.top, random_bits=16)
    largest = samples.double().abs().max()
    errors = [
        ((quantizer(samples, stream=lb.Stream(seed=1, step=step)).dequantize() - samples).double() / largest)
        for step in range(300)
    ]
    assert torch.stack(errors).square().mean().item() == pytest.approx(book.error, rel=0.01)


def test_finer_candidates_and_more_levels_are_never_worse():
    samples = normal((3000,), seed=5, spread=1.0)
    for stochastic in (True, False):
        by_bits = [
            grid_codebook(samples, 7, value_bits=bits, stochastic=stochastic).error for bits in (4, 6, 8, 10)
        ]
        # 31 in 7 is not a whole number: grids do not nest, so only far ones are compared.
        assert by_bits[0] > by_bits[2]
        assert by_bits[1] > by_bits[3]
        by_levels = [grid_codebook(samples, n, stochastic=stochastic).error for n in (3, 5, 7, 15, 31)]
        assert by_levels == sorted(by_levels, reverse=True)
        real = real_codebook(samples, 7, stochastic=stochastic).error
        assert real <= by_bits[3] * 1.001


def test_uniform_samples_have_the_integers_as_their_stochastic_codebook():
    samples = torch.arange(-7 * 16, 7 * 16 + 1) / 16.0
    assert grid_codebook(samples, 15, value_bits=4).values == tuple(float(v) for v in range(-7, 8))


def test_more_samples_than_are_told_apart_are_merged_with_little_loss():
    samples = normal((20000,), seed=6)
    few = real_codebook(samples, 15)
    assert len(torch.unique(samples.abs())) > MAX_POINTS
    assert few.error < grid_codebook(samples, 15, value_bits=10).error * 1.001


def test_the_scale_and_for_symmetric_ones_the_signs_of_the_samples_do_not_matter():
    samples = normal((500,), seed=8)
    assert grid_codebook(samples, 15) == grid_codebook(-8 * samples.abs(), 15)
    assert grid_codebook(samples, 5, symmetric=False) == grid_codebook(8 * samples, 5, symmetric=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 16}, "odd number of levels, as zero is one, got 16"),
        ({"levels": 1}, "2 to 4096 levels, got 1"),
        ({"levels": 7.0}, "2 to 4096 levels, got 7.0"),
        ({"value_bits": 13}, "value_bits is from 2 to 12, got 13"),
        ({"levels": 17, "value_bits": 4}, "17 levels do not fit into whole numbers of 4 bits"),
        ({"samples": torch.zeros(3)}, "not all zero; the largest magnitude is 0.0"),
        ({"samples": torch.tensor([])}, "not all zero; the largest magnitude is 0.0"),
        ({"samples": torch.tensor([1.0, torch.inf])}, "the largest magnitude is inf"),
        ({"samples": torch.tensor([1.0, torch.nan])}, "the largest magnitude is nan"),
    ],
)
def test_what_can_not_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        grid_codebook(**{"samples": torch.tensor([1.0, -0.5]), **changes})


@pytest.mark.parametrize("stochastic", [True, False])
def test_more_levels_than_distinct_samples_are_refused(stochastic):
    samples = torch.tensor([1.0, 0.5, -0.25])
    assert len(real_codebook(samples, 7, stochastic=stochastic).values) == 7
    with pytest.raises(ValueError, match="9 levels need more distinct samples than 3"):
        real_codebook(samples, 9, stochastic=stochastic)
