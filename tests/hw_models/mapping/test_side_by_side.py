"""Groups that run side by side: they share the memories' room and the cycles, and each moves what it moves alone."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hw_models
from hw_models.explore.overrides import with_overrides
from hw_models.mapping.crossing import fits
from hw_models.mapping.evaluation import evaluate
from hw_models.mapping.machine import Memories, memories_of
from hw_models.mapping.problem import DRAM, Problem
from hw_models.mapping.search import OBJECTIVES, Mapping, MappingError, best_mapping, candidates, search
from hw_models.mapping.tiling import ORDERS, Tiling
from lowbit_sim.trace import GemmEvent
from tests.hw_models.mapping.problems import ONE_STAGE, array, convolution, geometry, problem

roles = st.sampled_from(("output", "grad_input", "grad_weight"))


def layer(role: str, groups: int, batch: int = 1) -> GemmEvent:
    return convolution(role, geometry(batch=batch, channels=groups, filters=groups, groups=groups))


def depthwise(role: str, groups: int, *, mode: bool = True, batch: int = 1) -> Problem:
    """A depthwise convolution of 3 x 3 on 4 x 4 multipliers."""
    machine = array(dataflow="spatial", rows=4, columns=4, depthwise_over_columns=mode)
    return problem(layer(role, groups, batch), machine)


@settings(max_examples=30, deadline=None)
@given(roles, st.integers(2, 9), st.sampled_from((400, 1000, 4000, 10**6)), st.integers(1, 2))
def test_the_kernel_finds_what_brute_force_finds(role, groups, room, arrays):
    one = depthwise(role, groups)
    machine = replace(
        ONE_STAGE, levels=tuple(replace(lv, tile_bits=room) for lv in ONE_STAGE.levels), arrays=arrays
    )
    tilings = [
        Tiling(tiles=(tile,), orders=(order,))
        for tile, order in itertools.product(itertools.product(*candidates(one)), ORDERS)
        if all(fits(one, tile, level) for level in machine.levels)
    ]
    found, looked = search(one, machine, 0)
    assert (looked > 0) == bool(tilings)
    if tilings:
        assert evaluate(one, machine, found).cycles == min(
            evaluate(one, machine, tiling).cycles for tiling in tilings
        )


def test_a_memory_holds_the_tiles_of_all_groups_at_once():
    one = depthwise("output", 8)
    accumulator = ONE_STAGE.levels[1]
    assert one.work.at_once == 4
    # A tile of 5 results of 32 bits, of four groups.
    assert fits(one, (5, 1, 9), replace(accumulator, tile_bits=4 * 5 * 32))
    assert not fits(one, (5, 1, 9), replace(accumulator, tile_bits=4 * 5 * 32 - 1))


@pytest.mark.parametrize("groups", [4, 8, 11])
def test_each_group_moves_what_it_moves_alone(groups):
    beside, in_turn = depthwise("output", groups), depthwise("output", groups, mode=False)
    whole = Tiling(tiles=((25, 1, 9),), orders=("MNK",))
    fast, slow = (evaluate(one, ONE_STAGE, whole) for one in (beside, in_turn))
    assert fast.traffic == slow.traffic
    # 25 pixels at 9 positions: in rounds of four groups, or group by group.
    assert (fast.compute_cycles, slow.compute_cycles) == (-(-groups // 4) * 225, groups * 225)


@settings(max_examples=40, deadline=None)
@given(roles, st.integers(2, 9), st.integers(1, 9), st.sampled_from(OBJECTIVES), st.integers(0, 3))
def test_the_better_way_is_found_for_any_objective(role, groups, batch, objective, buffer):
    event, machine = layer(role, groups, batch), accelerator(256 << buffer)
    plain = with_overrides(machine, {"array.depthwise_over_columns": False})
    wanted = {"lhs_bits": 8, "rhs_bits": 8, "mode": machine.array.modes[0], "objective": objective}
    found, in_turn = (best_mapping(event, one, **wanted) for one in (machine, plain))
    memories = memories_of(machine)
    assert merit_of(found, memories, objective) <= merit_of(in_turn, memories, objective)


def merit_of(mapping: Mapping, memories: Memories, objective: str) -> float:
    """The figure that the objective asks for, added up crossing by crossing."""
    pj = {lv.name: (lv.read_pj_per_bit, lv.write_pj_per_bit) for lv in memories.levels}
    pj[DRAM] = (memories.dram_read_pj_per_bit, memories.dram_write_pj_per_bit)
    energy = mapping.cycles * memories.static_pj_per_cycle
    for crossing in mapping.traffic.crossings:
        read, write = pj[crossing.level]
        energy += crossing.read_bits * read + crossing.write_bits * write
    return {"cycles": mapping.cycles, "energy": energy, "edp": mapping.cycles * energy}[objective]


def accelerator(buffer_bytes: int) -> hw_models.HardwareProfile:
    """The Ethos-U55 with another buffer."""
    changes = {"memory.shared_buffer.capacity_bytes": buffer_bytes, "memory.shared_buffer.banks": 1}
    return with_overrides(hw_models.load("ethos_u55"), changes)


def test_groups_that_share_too_little_room_run_one_after_another():
    event, machine = layer("grad_weight", 8, 8), hw_models.load("ethos_u55")
    wanted = {"lhs_bits": 8, "rhs_bits": 8, "mode": machine.array.modes[0]}
    assert best_mapping(event, machine, **wanted).mapping_efficiency > 0
    # 8 bytes for tiles of one group's gradient and sum, not for those of eight.
    small = accelerator(16)
    in_turn = best_mapping(event, with_overrides(small, {"array.depthwise_over_columns": False}), **wanted)
    assert best_mapping(event, small, **wanted).tiles == in_turn.tiles
    with pytest.raises(MappingError, match="shared_buffer: the smallest tile, 1 x 1 results"):
        best_mapping(event, accelerator(8), **wanted)
