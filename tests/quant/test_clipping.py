"""Clips that are not the largest magnitude, against their definitions computed again here."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.reference import float32
from lowbit_sim.quant.clipping import (
    cosine_clip,
    cosine_distance,
    mse_clip,
    percentile_clip,
    sawb_clip,
    squared_error,
)
from lowbit_sim.quant.granularity import PerBlock, PerTensor, axis_of, scale_shape
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import (
    DirectionSensitiveScale,
    FixedScale,
    MseScale,
    PercentileScale,
    SawbScale,
    scale_and_zero_point,
)
from tests.quant.cases import GRANULARITIES, normal, regions_of, scale_index

CASES = pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
RULES = [PercentileScale(50), SawbScale(), MseScale(), DirectionSensitiveScale()]


@CASES
@pytest.mark.parametrize("percentile", [0.1, 50, 90.0, 99.9, 100])
def test_percentile_is_an_order_statistic(granularity, shape, percentile: float) -> None:
    x = normal(shape, seed=1)
    x.reshape(-1)[3::7] = math.inf
    clip = percentile_clip(x, granularity, percentile)
    for members in regions_of(granularity, shape).values():
        magnitudes = sorted(abs(x[i].item()) for i in members if math.isfinite(x[i].item()))
        rank = math.ceil(Fraction(str(percentile)) * len(magnitudes) / 100)
        expected = magnitudes[rank - 1] if magnitudes else 0.0
        assert {clip[scale_index(granularity, i, shape)].item() for i in members} == {expected}


def test_percentile_is_read_as_a_decimal_number() -> None:
    # 99.9 as a binary fraction is a little more than 99.9, which would make it the 1000th of 1000.
    x = torch.arange(1.0, 1001.0)
    assert percentile_clip(x, PerTensor(), 99.9).item() == 999
    assert percentile_clip(x, PerTensor(), 100).item() == 1000
    assert percentile_clip(x, PerTensor(), 0.01).item() == 1


def test_percentile_of_mostly_zeros_is_the_largest_magnitude() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0, -5.0], [0.0, 0.0, 0.0, 0.0]])
    assert percentile_clip(x, PerBlock(4), 50).tolist() == [[5.0], [0.0]]


def test_percentile_scale_saturates_the_rest() -> None:
    q = Quantizer(catalog.INT8, scale=PercentileScale(75))(torch.tensor([1.0, -2.0, 127.0, 1000.0]))
    assert q.scale.item() == 1.0
    assert q.codes.tolist() == [1, -2, 127, 127]


@pytest.mark.parametrize("value", [0, -1.0, 100.1, math.nan])
def test_percentile_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        PercentileScale(value)


@pytest.mark.parametrize(
    ("fmt", "c1", "c2"),
    [(catalog.INT2, 2.6, 1.71), (catalog.INT4, 12.035, 12.03), (catalog.INT8, 31.76, 35.04)],
)
@CASES
def test_sawb(fmt, c1: float, c2: float, granularity, shape) -> None:
    x = normal(shape, seed=2)
    clip = sawb_clip(x, fmt, granularity)
    for members in regions_of(granularity, shape).values():
        values = np.array([x[i].item() for i in members])
        expected = c1 * math.sqrt((values**2).mean()) - c2 * np.abs(values).mean()
        expected = expected if expected > 0 else np.abs(values).max()
        found = {clip[scale_index(granularity, i, shape)].item() for i in members}
        assert len(found) == 1
        assert found.pop() == pytest.approx(expected, rel=2e-6)


def test_sawb_clips_a_normal_tensor_near_the_best_clip() -> None:
    # What the coefficients are for: the regression that they come from is over bell-shaped distributions.
    x = normal((20000,), seed=3)
    best = mse_clip(x, catalog.INT4, PerTensor()).item()
    assert sawb_clip(x, catalog.INT4, PerTensor()).item() == pytest.approx(best, rel=0.15)


@pytest.mark.parametrize("fmt", [lb.IntFormat(bits=3), catalog.UINT4, catalog.FP4_E2M1], ids=str)
def test_sawb_has_no_coefficients_for_other_formats(fmt) -> None:
    with pytest.raises(ValueError, match=f"only, not for {fmt}"):
        Quantizer(fmt, scale=SawbScale())


def error_at(x: torch.Tensor, fmt, scale: float, cost) -> float:
    values = Quantizer(fmt, scale=FixedScale(scale))(x).dequantize()
    return float(cost(x.reshape(1, -1), values.reshape(1, -1))[0])


@pytest.mark.parametrize("fmt", [catalog.INT2, catalog.INT4, catalog.FP4_E2M1, catalog.LOG4_RADIX2], ids=str)
@pytest.mark.parametrize(
    ("rule", "cost"), [(MseScale(), squared_error), (DirectionSensitiveScale(), cosine_distance)]
)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_searched_clip_is_no_worse_than_many_others(fmt, rule, cost, spread: float) -> None:
    x = normal((500,), seed=4, spread=spread)
    reached = error_at(x, fmt, Quantizer(fmt, scale=rule)(x).scale.item(), cost)
    absmax = x.abs().max().item()
    others = [error_at(x, fmt, float32(absmax * i / 32 / fmt.max_value), cost) for i in range(1, 33)]
    assert reached <= min(others) * (1 + 1e-6)
    if fmt in (catalog.INT4, catalog.FP4_E2M1):
        # The search goes on where the grid stops.
        assert reached < min(others) * (1 - 1e-6)
    # A finer comb finds next to nothing better.
    fine = [error_at(x, fmt, float32(absmax * i / 400 / fmt.max_value), cost) for i in range(20, 401)]
    assert reached <= min(fine) * 1.1


@CASES
def test_a_searched_clip_is_that_of_the_region_alone(granularity, shape) -> None:
    x = normal(shape, seed=5, spread=1.0)
    for search in (mse_clip, cosine_clip):
        clip = search(x, catalog.INT4, granularity)
        assert clip.shape == scale_shape(granularity, shape)
        for members in list(regions_of(granularity, shape).values())[-2:]:
            # In the order of `rows`, in which they are summed.
            axis = axis_of(granularity, shape)
            ordered = members if axis is None else sorted(members, key=lambda i: (i[axis], *i))
            alone = torch.stack([x[i] for i in ordered])
            found = {clip[scale_index(granularity, i, shape)].item() for i in members}
            assert found == {search(alone, catalog.INT4, PerTensor()).item()}


def test_costs_by_hand() -> None:
    x, y = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    assert squared_error(x, y).tolist() == [8.0, 0.5]
    assert cosine_distance(x, y).tolist() == [1 - 0.6, 1.0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_zeros_and_infinities(rule) -> None:
    x = torch.zeros(4, 8)
    x[1] = normal((8,), seed=6)
    x[2] = x[1]
    x[2, 3] = math.inf
    x[3] = -math.inf
    scale, _ = scale_and_zero_point(x, catalog.INT4, lb.PerAxis(0), rule)
    assert scale[0].item() == scale[3].item() == 1.0
    assert torch.isfinite(scale).all()
    codes = Quantizer(catalog.INT4, scale=rule, granularity=lb.PerAxis(0))(x).codes
    assert codes[2, 3] == 7
    assert (codes[3] == -7).all()
    assert (codes[0] == 0).all()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("factor", [2.0**-140, 2.0**120])
def test_a_scale_stays_in_bounds(rule, factor: float) -> None:
    scale, _ = scale_and_zero_point(normal((50,), seed=7) * factor, catalog.INT4, PerTensor(), rule)
    assert 2.0**-126 <= scale.item() < math.inf


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_search_does_not_depend_on_the_number_of_threads(rule) -> None:
    x = normal((300, 200), seed=8)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = scale_and_zero_point(x, catalog.INT4, PerTensor(), rule)[0]
        torch.set_num_threads(1)
        assert torch.equal(two, scale_and_zero_point(x, catalog.INT4, PerTensor(), rule)[0])
    finally:
        torch.set_num_threads(threads)
