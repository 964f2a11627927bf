"""Halving the bit width under "cycles", where the time is sure to fall, and under "edp", where a product of both is.

The least energy falls with the width (`test_invariants`, objective "energy"). The fastest mapping at the narrower
width may be another one, which buys time with traffic; only where it is no faster, energy decides.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.cost import Cost
from hw_models.priced_trace import event_cost
from hw_models.pricing import Pricing
from lowbit_sim.trace import GemmEvent, Operand
from tests.hw_models.random_machines import gemms, machines


def of_width(event: GemmEvent, bits: int, sides: tuple[str, ...]) -> GemmEvent:
    """The event with integers of a width on some sides."""
    return replace(event, **{side: Operand(format=f"int{bits}", bits=bits) for side in sides})


@settings(max_examples=60, deadline=None)
@given(
    event=gemms,
    machine=machines(overlap=False),
    sides=st.sampled_from([("lhs",), ("rhs",), ("lhs", "rhs")]),
)
def test_half_the_width_is_never_slower_and_at_equal_cycles_takes_no_more_energy(event, machine, sides):
    whole = of_width(replace(event, overflow="wrap"), 8, ("lhs", "rhs"))
    wide, narrow = (event_cost(e, Pricing(profile=machine)) for e in (whole, of_width(whole, 4, sides)))
    assert narrow.cycles <= wide.cycles
    if narrow.cycles == wide.cycles:
        assert narrow.energy_pj <= wide.energy_pj * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    event=gemms,
    machine=machines(overlap=False),
    sides=st.sampled_from([("lhs",), ("rhs",), ("lhs", "rhs")]),
)
def test_half_the_width_never_grows_the_product_that_edp_chooses_by(event, machine, sides):
    """Cycles, or energy alone, may grow; multipliers and registers are no part of the choice."""
    whole = of_width(replace(event, overflow="wrap"), 8, ("lhs", "rhs"))
    pricing = Pricing(profile=machine, objective="edp")
    wide, narrow = (event_cost(e, pricing) for e in (whole, of_width(whole, 4, sides)))
    assert product(narrow, pricing) <= product(wide, pricing) * (1 + 1e-9)


def product(cost: Cost, pricing: Pricing) -> float:
    """Cycles times the energy of the memories and of static power."""
    levels = (*pricing.profile.memory.levels, "dram")
    moved = sum(cost.energy[level].nominal_pj for level in levels if level in cost.energy)
    return cost.cycles * (moved + cost.cycles * pricing.energies.static.nominal_pj)
