"""What halving the bit width does under the objective "cycles", where only the time is sure to fall.

The least energy falls with the width (`test_invariants`, objective "energy"). The fastest mapping at the narrower
width may be another one, which buys time with traffic; only where it is no faster, energy decides.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

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
