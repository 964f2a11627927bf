"""The largest magnitudes of regions, and what NaN and infinity do to them."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from lowbit_sim.quant.granularity import PerAxis, PerBlock, PerGroup, PerSample, PerTensor, scale_shape
from lowbit_sim.quant.magnitudes import absmax_on_cpu
from lowbit_sim.quant.not_a_number import NotANumberError
from lowbit_sim.quant.regions import absmax, extremes
from tests.quant.cases import GRANULARITIES, normal, regions_of, scale_index


@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 5, 17, 33]), min_size=1, max_size=3).filter(
        lambda shape: math.prod(shape) <= 600
    ),
    granularity=st.one_of(
        st.just(PerTensor()),
        st.just(PerSample()),
        st.builds(PerAxis, st.sampled_from([0, -1])),
        st.builds(PerGroup, st.integers(1, 5), st.sampled_from([0, -1])),
        st.builds(PerBlock, st.integers(1, 40)),
    ),
    seed=st.integers(0, 9),
    infinities=st.booleans(),
)
def test_against_a_loop_over_the_elements(shape, granularity, seed, infinities) -> None:
    x = normal(tuple(shape), seed=seed)
    if infinities:
        x.reshape(-1)[::3] = -math.inf
    found = absmax_on_cpu(x, granularity)
    assert found.shape == scale_shape(granularity, tuple(shape))
    for members in regions_of(granularity, tuple(shape)).values():
        values = [abs(x[i].item()) for i in members]
        largest = max(value if math.isfinite(value) else 0.0 for value in values)
        assert all(found[scale_index(granularity, i, tuple(shape))].item() == largest for i in members)


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
@pytest.mark.parametrize("search", [absmax, extremes])
def test_nan_anywhere_is_an_error(granularity, shape, search) -> None:
    for place in range(math.prod(shape)):
        for value in (math.nan, -math.nan):
            x = normal(shape, seed=1)
            x.reshape(-1)[place] = value
            x.reshape(-1)[(place + 1) % x.numel()] += math.inf
            if torch.isnan(x).any():
                with pytest.raises(NotANumberError):
                    search(x, granularity)


def test_a_transposed_tensor() -> None:
    x = normal((6, 5), seed=3)
    assert torch.equal(absmax_on_cpu(x.t(), PerAxis(0)), x.t().abs().amax(1, keepdim=True))


def test_scalars() -> None:
    assert absmax_on_cpu(torch.tensor(-3.0), PerTensor()).tolist() == 3.0
