"""Ranges add end to end and keep their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models.ranges import NOTHING, EnergyRange, exactly, of_figure, total_range
from hw_models.schema.base import Figure

ranges = st.lists(st.floats(0, 1e12), min_size=3, max_size=3).map(lambda v: EnergyRange(*sorted(v)))


@pytest.mark.parametrize("values", [(-1, 0, 1), (2, 1, 3), (1, 3, 2), (0, float("nan"), 1)])
def test_what_is_no_range_is_refused(values):
    with pytest.raises(ValueError, match="0 <= low <= nominal <= high, got"):
        EnergyRange(*values)


def test_sums_and_multiples():
    both = EnergyRange(1, 2, 4) + EnergyRange(0.5, 0.5, 1)
    assert both == EnergyRange(1.5, 2.5, 5)
    assert both.scaled(2) == EnergyRange(3, 5, 10)
    assert total_range([both, both, exactly(1)]) == EnergyRange(4, 6, 11)
    assert total_range([]) == NOTHING


def test_a_figure_is_a_range():
    figure = Figure(low=1.0, nominal=2.0, high=4.0, low_source="a", high_source="b")
    assert of_figure(figure) == EnergyRange(1, 2, 4)
    assert of_figure(figure).to_dict() == {"low_pj": 1, "nominal_pj": 2, "high_pj": 4}


@given(st.lists(ranges, max_size=8), st.floats(0, 1e9))
def test_every_sum_of_ranges_is_a_range(parts, factor):
    whole = total_range(part.scaled(factor) for part in parts)
    pairwise = NOTHING
    for part in parts:
        pairwise += part.scaled(factor)
    assert pairwise.nominal_pj == pytest.approx(whole.nominal_pj)
