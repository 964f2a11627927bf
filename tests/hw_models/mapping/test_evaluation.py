"""Cycles of a GEMM by itself and with what runs beside it; `test_traffic` has what crosses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models.mapping.evaluation import evaluate
from hw_models.mapping.problem import Beside
from hw_models.mapping.tiling import Tiling
from tests.hw_models.mapping.problems import (
    ONE_STAGE,
    UNBUFFERED,
    events,
    gemm,
    others,
    problem,
    tilings,
)


@pytest.mark.parametrize(
    ("beside", "cycles"),
    [
        (Beside(), 96),
        (Beside(cycles=80), 96),
        (Beside(cycles=200), 200),
        (Beside(bits=(("dram", 80),)), (32 * 8 + 16 * 32 + 80) // 8),
        (Beside(bits=(("accumulator", 6400),)), (6400 + 3 * 2 * 16 * 32 - 16 * 32 - 16 * 32) // 64),
        (Beside(cycles=500, bits=(("dram", 80),)), 500),
    ],
)
def test_a_group_takes_the_longest_of_all_that_it_shares(beside, cycles):
    """8 bits a cycle outside, 64 at the accumulator, where two row folds write and read 16 sums of 32 bits."""
    one = problem(gemm(4, 4, 4), beside=beside)
    found = evaluate(one, ONE_STAGE, Tiling(tiles=((4, 4, 4),), orders=("MNK",)))
    assert (found.cycles, found.bound_by) == (96, "dram")
    assert found.group_cycles == cycles


@given(data=st.data(), event=events(), beside=others(), machine=st.sampled_from([ONE_STAGE, UNBUFFERED]))
def test_what_runs_beside_changes_nothing_but_the_groups_cycles(data, event, beside, machine):
    one = problem(event)
    tiling = data.draw(tilings(one.sizes, 1))
    alone, together = (evaluate(p, machine, tiling) for p in (one, replace(one, beside=beside)))
    assert alone.group_cycles == alone.cycles
    assert replace(together, group_cycles=alone.cycles) == alone
    by_level = dict(beside.bits)
    names = [*(lv.name for lv in machine.levels), "dram"]
    in_turn = max([beside.cycles, *(machine.cycles_at(n, by_level.get(n, 0)) for n in names)])
    assert max(alone.cycles, beside.cycles) <= together.group_cycles <= alone.cycles + in_turn
