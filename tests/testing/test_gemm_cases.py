import pytest

from lowbit_sim.arith.additions import additions
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.testing.gemm_cases import overflowing

#: Units, the codes, and the accumulators that can be made to overflow.
REACHED = [
    (MacUnit(accumulator_bits=24), "int8_full", {"inner"}),
    (MacUnit(accumulator_bits=20, outer_bits=24, chunk=16, overflow="saturate"), "int8_full", {"outer"}),
    (
        MacUnit(accumulator_bits=18, outer_bits=24, chunk=16, overflow="saturate"),
        "int8_full",
        {"inner", "outer"},
    ),
    (MacUnit(accumulator_bits=24, outer_bits=20, overflow="saturate"), "int8_full", {"inner", "outer"}),
    (
        MacUnit(accumulator_bits=20, chunk=64, truncated_bits=4, overflow_at="chunk"),
        "int8_full",
        {"inner", "outer"},
    ),
    (MacUnit(accumulator_bits=22, chunk=3, overflow_at="outer"), "int8_full", {"outer"}),
    (MacUnit(accumulator_bits=20, order="tree", overflow="saturate_symmetric"), "int4", {"inner"}),
    (MacUnit(accumulator_bits=20), "uint4", {"inner"}),
    (MacUnit(accumulator_bits=48), "int8_full", set()),
]


def str_in_order(value: object) -> str:
    """A test's name that is the same in every process: a set's own text depends on the hash seed."""
    return "+".join(sorted(value)) or "none" if isinstance(value, set) else str(value)


@pytest.mark.parametrize(("mac", "codes", "reached"), REACHED, ids=str_in_order)
def test_the_accumulators_overflow_on_every_side_there_is(mac, codes, reached):
    sides = set()
    for a, b in overflowing(mac, codes, codes):
        sides |= {(s.accumulator, s.before + s.term > 0) for s in additions(a, b, mac)[1] if s.overflowed}
    signs = [True] if codes.startswith("u") else [True, False]
    assert sides == {(accumulator, sign) for accumulator in reached for sign in signs}
