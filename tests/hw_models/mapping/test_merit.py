"""What an objective compares."""

import pytest

from hw_models.mapping.evaluation import Evaluation
from hw_models.mapping.merit import merit
from hw_models.mapping.traffic import Crossing, Traffic
from tests.hw_models.mapping.problems import level, memories

MACHINE = memories(level("sram", 0, ("lhs", "rhs", "result")), static_pj_per_cycle=0.5)

#: 3 bits read at 1 pJ and 4 written at 2 in the SRAM, 5 and 6 outside at 10 and 20, 100 cycles at 0.5 pJ.
ENERGY = 3 * 1 + 4 * 2 + 5 * 10 + 6 * 20 + 100 * 0.5
COST = Evaluation(
    traffic=Traffic(
        crossings=(
            Crossing(level="sram", operand="lhs", read_bits=3, write_bits=4),
            Crossing(level="dram", operand="lhs", read_bits=5, write_bits=6),
        )
    ),
    compute_cycles=70,
    cycles=80,
    group_cycles=100,
    bound_by="dram",
)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("cycles", (100, ENERGY, 11)),
        ("energy", (ENERGY, 100, 11)),
        ("edp", (100 * ENERGY, 100, ENERGY, 11)),
    ],
)
def test_by_hand(objective, expected):
    assert merit(COST, MACHINE, objective) == expected
