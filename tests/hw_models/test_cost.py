"""Costs that can't be are refused, and sums are exact."""

import pytest

from hw_models.cost import Cost, Sum, total
from hw_models.ranges import EnergyRange, exactly


@pytest.mark.parametrize("name", ["compute_cycles", "macs", "ideal_cycles", "dram_bytes"])
def test_a_negative_cost_is_refused(name):
    with pytest.raises(ValueError, match=f"never negative, got {name}=-1"):
        Cost(**{name: -1})


def test_negative_traffic_is_refused():
    with pytest.raises(ValueError, match="never negative, got traffic="):
        Cost(traffic={("sram", "lhs"): 3, ("dram", "lhs"): -1})


def test_less_time_than_at_the_peak_is_refused():
    with pytest.raises(ValueError, match="cycles=10 is less than ideal_cycles=10.5"):
        Cost(cycles=10, ideal_cycles=10.5)


def test_totals_of_large_integers_are_exact():
    big = Cost(cycles=2**60 + 1, compute_cycles=1, macs=2**60 + 1, traffic={("dram", "lhs"): 2**70 + 1})
    assert total([big, big]).cycles == 2**61 + 2
    assert total([big, big]).macs == 2**61 + 2
    assert total([big, big]).traffic == {("dram", "lhs"): 2**71 + 2}


def test_the_total_of_nothing_is_nothing():
    assert total([]) == Cost()
    assert Cost().bound_by == ""
    assert Cost().utilization == 0


def test_the_energy_is_the_sum_of_its_components():
    cost = Cost(energy={"dram": EnergyRange(1, 2, 3), "add": EnergyRange(0.5, 0.5, 4)})
    assert (cost.energy_low_pj, cost.energy_pj, cost.energy_high_pj) == (1.5, 2.5, 7)


def test_a_sum_of_equal_events_and_static_power():
    one = Cost(cycles=3, energy={"dram": exactly(2)}, cycles_by_bound={"dram": 3})
    other = Cost(cycles=5, energy={"add": exactly(1)}, cycles_by_bound={"compute": 5})
    whole = Sum().add(one, 4).add(other).cost(static=EnergyRange(1, 2, 3))
    assert (whole.cycles, whole.cycles_by_bound) == (17, {"dram": 12, "compute": 5})
    assert whole.energy == {"dram": exactly(8), "add": exactly(1), "static": EnergyRange(17, 34, 51)}
    assert whole.bound_by == "dram"


def test_no_static_power_is_no_component():
    assert "static" not in Sum().add(Cost(cycles=3)).cost().energy


def test_a_dictionary_holds_the_traffic_by_memory():
    cost = Cost(cycles=1, traffic={("sram", "lhs"): 8, ("sram", "rhs"): 4, ("dram", "lhs"): 2})
    assert cost.to_dict()["traffic_bits"] == {"sram": {"lhs": 8, "rhs": 4}, "dram": {"lhs": 2}}
    assert cost.level_bits("sram") == 12
