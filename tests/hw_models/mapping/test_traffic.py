from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.mapping.crossing import crossing_elements, tile_bits
from hw_models.mapping.evaluation import compute_cycles, evaluate
from hw_models.mapping.problem import OPERAND_DIMENSIONS
from hw_models.mapping.tiling import Tiling
from tests.hw_models.mapping.problems import (
    BYPASSED,
    CODES,
    ONE_STAGE,
    SHARES,
    TWO_STAGES,
    UNBUFFERED,
    WIDTHS,
    array,
    events,
    gemm,
    level,
    memories,
    problem,
    tilings,
)
from tests.hw_models.mapping.walk import walk, whole_elements

MACHINES = {"one_stage": ONE_STAGE, "two_stages": TWO_STAGES, "bypassed": BYPASSED}


def crossing(evaluation, name, operand):
    """Bits read and written."""
    [found] = [c for c in evaluation.traffic.crossings if (c.level, c.operand) == (name, operand)]
    return found.read_bits, found.write_bits


def test_the_docstrings_example():
    one = problem(gemm(4, 4, 4))
    kept = Tiling(tiles=((2, 2, 4),), orders=("MNK",))
    assert [crossing_elements(one, kept, 0, o) for o in ("lhs", "rhs", "result")] == [16, 32, 16]
    split = Tiling(tiles=((2, 2, 2),), orders=("KMN",))
    assert crossing_elements(one, split, 0, "result") == 32


def test_every_figure_of_one_small_gemm():
    # A 2 x 2 weight-stationary array, M = N = K = 4 in tiles of (2, 2, 4), M outside N: 2 x 2 folds, each of
    # them split in 2 by the tiles of M.
    one = problem(gemm(4, 4, 4))
    found = evaluate(one, ONE_STAGE, Tiling(tiles=((2, 2, 4),), orders=("MNK",)))
    fold = 2 + (2 * 2 + 2 - 2)  # two steps and the exposed loading and skew
    assert found.compute_cycles == 4 * 2 * fold
    assert crossing(found, "dram", "lhs") == (16 * 8, 0)
    assert crossing(found, "dram", "rhs") == (2 * 16 * 8, 0)
    assert crossing(found, "dram", "result") == (0, 16 * 32)
    # The array reads the lhs for each of 2 column folds, and the weights for each tile of M.
    assert crossing(found, "sram", "lhs") == (2 * 16 * 8, 16 * 8)
    assert crossing(found, "sram", "rhs") == (2 * 16 * 8, 2 * 16 * 8)
    # Two row folds: sums are written twice and read back once, and leave once.
    assert crossing(found, "accumulator", "result") == ((16 + 16) * 32, 2 * 16 * 32)


@pytest.mark.parametrize("stages", [1, 2])
@settings(max_examples=300, deadline=None)
@given(data=st.data(), event=events())
def test_tiles_cross_as_the_loops_walked_one_by_one(stages, data, event):
    one = problem(event)
    tiling = data.draw(tilings(one.sizes, stages))
    held = walk(one, tiling)
    for stage in range(stages):
        for operand in OPERAND_DIMENSIONS:
            assert billed(one, stages, tiling, stage, operand) == walked(one, held[stage, operand], operand)


def walked(one, resident, operand):
    """Elements that enter and leave, but that a tensor crosses once at least."""
    if operand == "result":
        return resident.entered, resident.left
    return max(resident.entered, whole_elements(one, operand)), 0


def billed(one, stages, tiling, stage, operand):
    """Elements that enter and leave a stage, from what is billed at the memory outside it."""
    found = evaluate(one, memories(level("only", stage, (operand,)), stages=stages), tiling)
    width = dict(zip(OPERAND_DIMENSIONS, one.bits, strict=True))[operand] * one.work.count
    read, written = crossing(found, "dram", operand)
    return Fraction(read, width), Fraction(written, width)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), event=events(), dataflow=st.sampled_from(["ws", "os", "is"]))
def test_one_stage_takes_the_arrays_own_cycles(data, event, dataflow):
    one = problem(event, array(dataflow=dataflow))
    tiling = data.draw(tilings(one.sizes, 1))
    tile = tiling.tiles[0]["MNK".index(one.work.time_dimension)]
    machine = replace(ONE_STAGE, arrays=2, startup_cycles=7)
    cycles = one.work.cycles(arrays=2, startup=7, time_tile=tile)
    assert compute_cycles(one, machine, tiling) == cycles


def test_uneven_tiles_of_two_stages_split_the_folds_as_they_fall():
    # Rows 0-5 and 6-9 outside, cut into 4 + 2 and 4 inside: three runs of steps, 2 x 2 folds.
    one = problem(gemm(10, 4, 4))
    tiling = Tiling(tiles=((4, 4, 4), (6, 4, 4)), orders=("MNK", "MNK"))
    assert compute_cycles(one, TWO_STAGES, tiling) == 4 * (10 + 3 * 4)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), event=events())
def test_the_two_outer_loops_of_one_stage_may_change_places(data, event):
    one = problem(event)
    tile = data.draw(tilings(one.sizes, 1)).tiles
    if any(t == s for t, s in zip(tile[0], one.sizes, strict=True)):
        return
    for a, b in (("MNK", "NMK"), ("MKN", "KMN"), ("NKM", "KNM")):
        first, second = (evaluate(one, ONE_STAGE, Tiling(tiles=tile, orders=(o,))) for o in (a, b))
        assert first == second


@pytest.mark.parametrize("name", [*MACHINES, "unbuffered"])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), event=events())
def test_what_leaves_a_memory_enters_the_next(name, data, event):
    machine = {**MACHINES, "unbuffered": UNBUFFERED}[name]
    one = problem(event)
    found = evaluate(one, machine, data.draw(tilings(one.sizes, machine.stages)))
    for operand in ("lhs", "rhs"):
        path = [lv.name for lv in machine.levels if operand in lv.holds] + ["dram"]
        for inner, outer in zip(path, path[1:], strict=False):
            assert crossing(found, inner, operand)[1] <= crossing(found, outer, operand)[0]
    assert all(c.read_bits >= 0 and c.write_bits >= 0 for c in found.traffic.crossings)


@pytest.mark.parametrize("name", [*MACHINES, "unbuffered"])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), event=events(), widths=st.sampled_from(WIDTHS))
def test_cycles_are_at_least_every_bound(name, data, event, widths):
    machine = {**MACHINES, "unbuffered": UNBUFFERED}[name]
    one = problem(event, **widths)
    found = evaluate(one, machine, data.draw(tilings(one.sizes, machine.stages)))
    assert found.cycles >= found.compute_cycles >= Fraction(event.macs, array().elements)
    for lv in machine.levels:
        assert found.cycles >= Fraction(found.traffic.bits(lv.name), lv.bits_per_cycle)
    seconds = Fraction(found.traffic.bits("dram"), machine.dram_bits_per_second)
    assert found.cycles >= seconds * machine.frequency_hz


def test_finished_results_leave_as_codes_and_sums_as_they_are():
    # Tiles of half the reduction: 16 sums of 32 bits leave the accumulator and come back, then 16 codes leave.
    one = problem(gemm(4, 4, 4), finished_bits=8)
    split = Tiling(tiles=((2, 2, 2),), orders=("KMN",))
    found = evaluate(one, ONE_STAGE, split)
    assert crossing(found, "dram", "result") == (16 * 32, 16 * 32 + 16 * 8)
    as_sums = evaluate(problem(gemm(4, 4, 4)), ONE_STAGE, split)
    assert crossing(found, "accumulator", "result") == crossing(as_sums, "accumulator", "result")


def test_codes_pass_the_memories_beyond_the_accumulator():
    one = problem(gemm(4, 4, 4), finished_bits=8)
    found = evaluate(one, TWO_STAGES, Tiling(tiles=((4, 4, 4),) * 2, orders=("MNK", "MNK")))
    assert crossing(found, "accumulator", "result")[0] == (16 + 16) * 32  # partial sums, and results to leave
    assert crossing(found, "cache", "result") == (16 * 8, 16 * 8)
    assert crossing(found, "dram", "result") == (0, 16 * 8)


def test_codes_leave_an_array_without_a_memory_for_results():
    machine = memories(level("sram", 0, ("lhs", "rhs")))
    whole = Tiling(tiles=((4, 4, 4),), orders=("MNK",))
    sums, codes = (evaluate(problem(gemm(4, 4, 4), **w), machine, whole) for w in ({}, CODES))
    assert crossing(sums, "dram", "result") == (16 * 32, 2 * 16 * 32)  # two row folds
    assert crossing(codes, "dram", "result") == (16 * 32, 16 * 32 + 16 * 8)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), event=events())
def test_narrower_results_only_take_bits_off(data, event):
    tiling = data.draw(tilings((event.M, event.N, event.K), 2))
    sums, codes = (evaluate(problem(event, **w), TWO_STAGES, tiling) for w in ({}, CODES))
    saved = event.count * event.M * event.N * 24
    assert sums.traffic.bits("dram") - codes.traffic.bits("dram") == saved
    assert sums.traffic.bits("cache") - codes.traffic.bits("cache") == 2 * saved
    assert sums.traffic.bits("accumulator") == codes.traffic.bits("accumulator")


def test_shares_of_a_bit_are_rounded_up_once_for_a_memory():
    # 16 elements of 4 1/4 and 12 of 4 1/2 bits come in, and 12 codes leave.
    one = problem(gemm(4, 3, 4), **SHARES)
    found = evaluate(one, ONE_STAGE, Tiling(tiles=((4, 3, 4),), orders=("MNK",)))
    assert crossing(found, "dram", "lhs") == (68, 0)
    assert crossing(found, "dram", "rhs") == (54, 0)
    odd = problem(gemm(3, 1, 1), **SHARES)  # 12 3/4 and 4 1/2 bits, 17 1/4 together
    found = evaluate(odd, ONE_STAGE, Tiling(tiles=((3, 1, 1),), orders=("MNK",)))
    assert found.traffic.read_bits("dram") == 18
    assert tile_bits(odd, (3, 1, 1), "lhs") == 3 * 17


def test_transfers_that_are_not_double_buffered_add_to_compute():
    one = problem(gemm(4, 4, 4))
    whole = Tiling(tiles=((4, 4, 4),), orders=("MNK",))
    fast = {"dram_bits_per_second": 64_000}
    overlapped = evaluate(one, replace(ONE_STAGE, **fast), whole)
    waiting = evaluate(one, replace(UNBUFFERED, **fast), whole)
    assert overlapped.cycles == overlapped.compute_cycles == 32
    # 128 bits of each operand come in at 64 bits a cycle on both sides.
    assert waiting.cycles == 32 + 4
    assert waiting.bound_by == "compute"


def test_waiting_is_laid_to_the_memory_that_waits():
    # 64 folds of 8 cycles; 2 x 256 bytes come in at 4 bits a cycle, and 64 bytes of results leave meanwhile.
    one = problem(gemm(4, 4, 64))
    whole = Tiling(tiles=((4, 4, 64),), orders=("MNK",))
    waiting = evaluate(one, replace(UNBUFFERED, dram_bits_per_second=4_000), whole)
    assert (waiting.cycles, waiting.bound_by) == (64 * 8 + 4096 // 4, "sram")
    overlapped = evaluate(one, replace(ONE_STAGE, dram_bits_per_second=4_000), whole)
    assert (overlapped.cycles, overlapped.bound_by) == ((4096 + 512) // 4, "dram")


def test_padded_loads_fetch_whole_folds():
    machine = array(padded_loads=True)
    one = problem(gemm(4, 3, 3), machine, padded="rhs")
    found = evaluate(one, ONE_STAGE, Tiling(tiles=((4, 3, 3),), orders=("MNK",)))
    assert crossing(found, "dram", "rhs") == (16 * 8, 0)
    assert crossing(found, "dram", "lhs") == (12 * 8, 0)
    assert crossing(found, "sram", "rhs") == (16 * 8, 16 * 8)
    assert tile_bits(one, (4, 3, 3), "rhs") == 16 * 8


def test_tiles_of_an_output_stationary_arrays_reduction_spill_partial_sums():
    machine = array(dataflow="os")
    one = problem(gemm(2, 2, 8), machine)
    found = evaluate(one, ONE_STAGE, Tiling(tiles=((2, 2, 4),), orders=("MNK",)))
    assert crossing(found, "accumulator", "result") == ((4 + 4) * 32, 2 * 4 * 32)
    assert found.compute_cycles == 2 * (4 + 2)
