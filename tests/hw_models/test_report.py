"""Costs that can't be are refused, and sums are exact."""

import pytest

from hw_models.report import Cost, total


@pytest.mark.parametrize("name", ["compute_cycles", "macs", "ideal_cycles", "dram_bytes", "sram_bytes"])
def test_a_negative_cost_is_refused(name):
    with pytest.raises(ValueError, match=f"never negative, got {name}=-1"):
        Cost(**{name: -1})


@pytest.mark.parametrize("part", [{"compute_cycles": 11}, {"ideal_cycles": 10.5}])
def test_less_time_than_its_parts_is_refused(part):
    with pytest.raises(ValueError, match="cycles=10 is less than"):
        Cost(cycles=10, **part)


def test_totals_of_large_integers_are_exact():
    big = Cost(cycles=2**60 + 1, compute_cycles=1, macs=2**60 + 1)
    assert total([big, big]).cycles == 2**61 + 2
    assert total([big, big]).macs == 2**61 + 2


def test_the_total_of_nothing_is_nothing():
    assert total([]) == Cost()
