"""Regions against their definition, element by element."""

import math

import pytest
import torch

from lowbit_sim.quant.granularity import PerBlock, PerGroup, PerSample, PerTensor, scale_shape
from lowbit_sim.quant.regions import absmax, addressing, extremes, rows, spread
from tests.quant.cases import GRANULARITIES, indices, normal, regions_of, scale_index

CASES = pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)


@CASES
def test_extremes(granularity, shape) -> None:
    x = normal(shape, seed=1) + 0.5
    low, high = extremes(x, granularity)
    largest = absmax(x, granularity)
    assert low.shape == high.shape == largest.shape == scale_shape(granularity, shape)
    for members in regions_of(granularity, shape).values():
        values = [x[i].item() for i in members]
        for i in members:
            at = scale_index(granularity, i, shape)
            assert (low[at].item(), high[at].item()) == (min(values), max(values))
            assert largest[at].item() == max(map(abs, values))


@CASES
def test_infinities_count_as_zeros(granularity, shape) -> None:
    x = normal(shape, seed=2)
    x.reshape(-1)[1::3] = math.inf
    x.reshape(-1)[2::5] = -math.inf
    finite = torch.where(torch.isinf(x), 0.0, x)
    for found, expected in zip(extremes(x, granularity), extremes(finite, granularity), strict=True):
        assert torch.equal(found, expected)


@CASES
def test_rows_hold_each_region_once_and_spread_puts_their_values_in_place(granularity, shape) -> None:
    x = torch.arange(1, 1 + math.prod(shape), dtype=torch.float32).reshape(shape)
    parts = rows(x, granularity)
    found = sorted(sorted(row) for part in parts for row in part.tolist())
    expected = regions_of(granularity, shape).values()
    assert found == sorted(sorted(x[i].item() for i in members) for members in expected)
    sums = spread([part.sum(1) for part in parts], granularity, shape, empty=0.0)
    assert sums.shape == scale_shape(granularity, shape)
    for members in expected:
        total = sum(x[i].item() for i in members)
        assert all(sums[scale_index(granularity, i, shape)].item() == total for i in members)


@CASES
def test_addressing_finds_each_elements_scale(granularity, shape) -> None:
    scales = torch.arange(math.prod(scale_shape(granularity, shape))).reshape(scale_shape(granularity, shape))
    run, index = addressing(granularity, shape)
    inv = scales.reshape(-1)[index].tolist()
    run = run or 1 << 14
    found = [inv[(i // run) % len(inv)] for i in range(math.prod(shape))]
    assert found == [scales[scale_index(granularity, i, shape)].item() for i in indices(shape)]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 0, 5)])
@pytest.mark.parametrize("granularity", [PerTensor(), PerSample(), PerGroup(2, 0), PerBlock(3)])
def test_tensors_without_elements(granularity, shape) -> None:
    x = torch.empty(shape)
    assert absmax(x, granularity).shape == scale_shape(granularity, shape)
    assert rows(x, granularity) == []
    assert (
        spread([], granularity, shape, empty=7.0).tolist()
        == torch.full(scale_shape(granularity, shape), 7.0).tolist()
    )


def test_whole_blocks_are_long_runs() -> None:
    # A kernel that walked single elements would be right and slow.
    assert addressing(PerBlock(32), (4, 128))[0] == 32
    assert addressing(PerBlock(32), (4, 24))[0] == 24
    assert addressing(PerBlock(32), (4, 144))[0] == 16
