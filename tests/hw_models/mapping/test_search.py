"""The search against brute force with the definition, and what must hold for every machine."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hw_models
from hw_models.explore.overrides import with_overrides
from hw_models.mapping.crossing import fits
from hw_models.mapping.evaluation import evaluate
from hw_models.mapping.problem import DRAM, Beside, Problem
from hw_models.mapping.search import OBJECTIVES, MappingError, best_mapping, candidates, search
from hw_models.mapping.tiling import ORDERS, Tiling
from tests.hw_models.machines import tiny
from tests.hw_models.mapping.problems import (
    BYPASSED,
    ONE_STAGE,
    TWO_STAGES,
    UNBUFFERED,
    WIDTHS,
    array,
    convolution,
    events,
    gemm,
    geometry,
    others,
    problem,
)
from tests.hw_models.mapping.walk import whole_elements

MACHINES = {
    "one_stage": ONE_STAGE,
    "two_stages": TWO_STAGES,
    "bypassed": BYPASSED,
    "unbuffered": UNBUFFERED,
}


def with_room(machine, bits):
    """The machine with memories of so many bits, further ones four times as large as the one before."""
    return replace(machine, levels=tuple(replace(lv, tile_bits=bits * 4**lv.stage) for lv in machine.levels))


def all_fit(one, machine, tiling):
    return all(fits(one, tiling.tiles[lv.stage], lv) for lv in machine.levels)


def all_that_fit(one, machine, stage):
    """Every tile at a stage."""
    levels = [lv for lv in machine.levels if lv.stage == stage]
    return [t for t in itertools.product(*candidates(one)) if all(fits(one, t, lv) for lv in levels)]


def every_mapping(one: Problem, machine) -> list[Tiling]:
    """Every mapping of the candidates."""
    tiles = [(inner,) for inner in all_that_fit(one, machine, 0)]
    if machine.stages == 2:
        tiles = [
            (*inner, outer)
            for outer, inner in itertools.product(all_that_fit(one, machine, 1), tiles)
            if all(i <= o for i, o in zip(*inner, outer, strict=True))
        ]
    orders = list(itertools.product(ORDERS, repeat=machine.stages))
    return [Tiling(tiles=t, orders=o) for t in tiles for o in orders]


def energy_pj(machine, evaluation):
    by_name = {lv.name: (lv.read_pj_per_bit, lv.write_pj_per_bit) for lv in machine.levels}
    by_name[DRAM] = (machine.dram_read_pj_per_bit, machine.dram_write_pj_per_bit)
    return sum(
        c.read_bits * by_name[c.level][0] + c.write_bits * by_name[c.level][1]
        for c in evaluation.traffic.crossings
    )


def merit(machine, evaluation, objective):
    cycles, energy = evaluation.group_cycles, energy_pj(machine, evaluation)
    dram = evaluation.traffic.bits(DRAM)
    return {
        "cycles": (cycles, energy, dram),
        "energy": (energy, cycles, dram),
        "edp": (cycles * energy, cycles, dram),
    }[objective]


#: Mappings that the slow definition costs; of more, so many at random.
MANY = 1000

rooms = st.sampled_from([100, 300, 1000, 10**6])
dataflows = st.sampled_from(["ws", "os", "is"])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=4, deadline=None)
@given(
    event=events(),
    room=rooms,
    dataflow=dataflows,
    padded=st.booleans(),
    widths=st.sampled_from(WIDTHS),
    beside=others(),
    rng=st.randoms(),
)
def test_the_kernel_finds_what_brute_force_finds(
    name, objective, event, room, dataflow, padded, widths, beside, rng
):
    machine = with_room(MACHINES[name], room)
    one = problem(event, array(dataflow=dataflow), beside=beside, **widths)
    if padded:
        one = replace(one, padded=one.work.stationary)
    everything = every_mapping(one, machine)
    found, looked = search(one, machine, OBJECTIVES.index(objective))
    assert bool(looked) == bool(everything)
    if not everything:
        return
    assert all_fit(one, machine, found)
    looked_at = rng.sample(everything, min(len(everything), MANY))
    best = min(merit(machine, evaluate(one, machine, t), objective) for t in looked_at)
    # Energies here are whole numbers, so float64 is exact, but for bits that are rounded up where they are told.
    ours = merit(machine, evaluate(one, machine, found), objective)
    if one.units_per_bit > 1:
        assert ours[0] <= best[0] if objective == "cycles" else ours[0] <= best[0] * (1 + 1e-2)
    else:
        assert ours == best if len(looked_at) == len(everything) else ours <= best


@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=60, deadline=None)
@given(
    event=events(),
    room=rooms,
    dataflow=dataflows,
    loading=st.sampled_from(["exposed", "hidden"]),
    objective=st.integers(0, 2),
    widths=st.sampled_from(WIDTHS),
    beside=others(),
)
def test_what_is_left_out_is_not_better(name, event, room, dataflow, loading, objective, widths, beside):
    machine = with_room(MACHINES[name], room)
    one = problem(event, array(dataflow=dataflow, loading=loading), beside=beside, **widths)
    assert search(one, machine, objective)[0] == search(one, machine, objective, exhaustive=True)[0]


@settings(max_examples=100, deadline=None)
@given(
    event=events(),
    name=st.sampled_from(sorted(MACHINES)),
    room=st.integers(100, 2000),
    grown=st.integers(0, 2),
    factor=st.sampled_from([1.1, 2, 5]),
    dataflow=dataflows,
    beside=others(),
)
def test_a_larger_memory_among_several_is_never_worse(event, name, room, grown, factor, dataflow, beside):
    machine = with_room(MACHINES[name], room)
    one = problem(event, array(dataflow=dataflow), beside=beside)
    levels = list(machine.levels)
    at = grown % len(levels)
    levels[at] = replace(levels[at], tile_bits=int(factor * levels[at].tile_bits))
    larger = replace(machine, levels=tuple(levels))
    for objective in ("cycles", "energy"):
        before, looked = search(one, machine, OBJECTIVES.index(objective))
        if not looked:
            return
        after, looked = search(one, larger, OBJECTIVES.index(objective))
        assert looked
        costs = [merit(m, evaluate(one, m, t), objective)[0] for m, t in ((machine, before), (larger, after))]
        assert costs[1] <= costs[0]


@pytest.mark.parametrize("objective", ["cycles", "energy"])
@pytest.mark.parametrize("kib", [100, 128, 200])
def test_a_larger_memory_is_never_worse_for_a_convolution_of_odd_tiles(kib, objective):
    shape = geometry(batch=16, channels=33, size=34, filters=8, kernel=3, stride=2)
    event = convolution("grad_weight", shape)
    small, large = (
        with_overrides(hw_models.load("edge_npu"), {"memory.sram.kib": size}) for size in (kib, 3 * kib // 2)
    )
    costs = [best(event, machine, objective) for machine in (small, large)]
    if objective == "cycles":
        assert costs[1].cycles <= costs[0].cycles
    else:
        assert nominal_pj(costs[1], large) <= nominal_pj(costs[0], small)


@settings(max_examples=100, deadline=None)
@given(
    event=events(),
    name=st.sampled_from(sorted(MACHINES)),
    room=st.integers(300, 2000),
    faster=st.integers(0, 3),
    factor=st.integers(2, 5),
    dataflow=dataflows,
    beside=others(),
)
def test_a_faster_memory_is_never_slower_with_what_runs_beside(
    event, name, room, faster, factor, dataflow, beside
):
    machine = with_room(MACHINES[name], room)
    one = problem(event, array(dataflow=dataflow), beside=beside)
    if faster < len(machine.levels):
        levels = list(machine.levels)
        levels[faster] = replace(levels[faster], bits_per_cycle=factor * levels[faster].bits_per_cycle)
        better = replace(machine, levels=tuple(levels))
    else:
        better = replace(machine, dram_bits_per_second=factor * machine.dram_bits_per_second)
    before, looked = search(one, machine, 0)
    if looked:
        after, _ = search(one, better, 0)
        assert evaluate(one, better, after).group_cycles <= evaluate(one, machine, before).group_cycles


def test_a_mapping_leaves_bandwidth_to_what_runs_beside():
    """The fastest one by itself moves more outside, where the other work has 100,000 bits of its own."""
    one = problem(gemm(128, 8, 32), array(dataflow="ws"))
    machine = with_room(ONE_STAGE, 2000)
    alone, _ = search(one, machine, 0)
    crowded = replace(one, beside=Beside(bits=((DRAM, 100_000),)))
    found, _ = search(crowded, machine, 0)
    assert evaluate(crowded, machine, found).group_cycles < evaluate(crowded, machine, alone).group_cycles
    assert evaluate(one, machine, found).cycles > evaluate(one, machine, alone).cycles


def test_static_power_makes_haste_worth_energy():
    # Small tiles in time save traffic at the accumulator's expense in cycles, or not, by what a cycle costs.
    one = problem(gemm(64, 64, 64), array(dataflow="ws"))
    idle = with_room(ONE_STAGE, 20_000)
    burning = replace(idle, static_pj_per_cycle=1e9)
    frugal, hasty = (evaluate(one, m, search(one, m, OBJECTIVES.index("energy"))[0]) for m in (idle, burning))
    fastest = evaluate(one, idle, search(one, idle, 0)[0])
    assert hasty.cycles == fastest.cycles <= frugal.cycles
    assert energy_pj(idle, frugal) <= energy_pj(idle, hasty)


@pytest.mark.parametrize("size", [1 << 40, 3**25])
def test_sizes_beyond_float64s_whole_numbers_are_costed_in_whole_numbers(size):
    found = best(gemm(size, size, size), profile(dram_bandwidth=10**6))
    assert found.macs == size**3
    assert found.cycles >= found.compute_cycles > size**3 // 16


def profile(**changes) -> hw_models.HardwareProfile:
    """The small machine with other keys, as in `sram_bytes` or `dram_bandwidth`."""
    keys = {
        "sram_bytes": ("capacity_bytes = 4096", "capacity_bytes = {}"),
        "accumulator_bytes": ("capacity_bytes = 1024", "capacity_bytes = {}"),
        "sram_bandwidth": ("bandwidth_bytes_per_cycle = 16", "bandwidth_bytes_per_cycle = {}"),
        "dram_bandwidth": ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = {}"),
        "dataflow": ('dataflow = "ws"', 'dataflow = "{}"'),
    }
    return tiny(*((keys[k][0], keys[k][1].format(v)) for k, v in changes.items()))


def best(event, machine, objective="cycles", bits=8):
    return best_mapping(
        event, machine, lhs_bits=bits, rhs_bits=bits, mode=machine.array.modes[0], objective=objective
    )


large = st.integers(1, 200)


@settings(max_examples=60, deadline=None)
@given(M=large, N=large, K=large, dataflow=st.sampled_from(["ws", "os", "is"]))
@pytest.mark.parametrize("key", ["sram_bytes", "accumulator_bytes", "sram_bandwidth", "dram_bandwidth"])
def test_more_is_never_slower_nor_takes_more_energy(key, M, N, K, dataflow):
    usual = {"sram_bytes": 4096, "accumulator_bytes": 1024, "sram_bandwidth": 16, "dram_bandwidth": 4000}[key]
    event = gemm(M, N, K)
    small, big = (profile(**{key: usual * factor, "dataflow": dataflow}) for factor in (1, 3))
    assert best(event, big).cycles <= best(event, small).cycles
    if key.endswith("bytes"):
        cost = [nominal_pj(best(event, machine, "energy"), machine) for machine in (small, big)]
        assert cost[1] <= cost[0]


def nominal_pj(mapping, machine):
    from hw_models.mapping.machine import memories_of

    return energy_pj(memories_of(machine), mapping)


@settings(max_examples=100, deadline=None)
@given(M=st.integers(1, 50).map(lambda m: 4 * m), N=large, K=large, dataflow=dataflows)
def test_twice_the_rows_take_at_most_twice_the_cycles(M, N, K, dataflow):
    machine = profile(dataflow=dataflow)
    assert best(gemm(2 * M, N, K), machine).cycles <= 2 * best(gemm(M, N, K), machine).cycles


@settings(max_examples=100, deadline=None)
@given(M=large, N=large, K=large)
def test_transposing_the_gemm_and_the_dataflow_changes_nothing(M, N, K):
    one = best(gemm(M, N, K), profile(dataflow="ws"))
    other = best(gemm(N, M, K), profile(dataflow="is"))
    assert (one.cycles, one.compute_cycles) == (other.cycles, other.compute_cycles)
    assert one.traffic.bits(DRAM) == other.traffic.bits(DRAM)


@settings(max_examples=100, deadline=None)
@given(M=large, N=large, K=large, objective=st.sampled_from(["cycles", "energy"]))
def test_half_the_width_never_costs_more(M, N, K, objective):
    machine = profile()
    wide, narrow = best(gemm(M, N, K), machine, objective, 8), best(gemm(M, N, K), machine, objective, 4)
    if objective == "cycles":
        assert narrow.cycles <= wide.cycles
    else:
        assert nominal_pj(narrow, machine) <= nominal_pj(wide, machine)


@settings(max_examples=100, deadline=None)
@given(event=events(), objective=st.sampled_from(OBJECTIVES))
def test_outside_every_operand_crosses_at_least_once(event, objective):
    found = best(event, profile(), objective)
    by_operand = {c.operand: c.read_bits + c.write_bits for c in found.traffic.crossings if c.level == DRAM}
    assert by_operand["result"] >= event.count * event.M * event.N * event.outer_bits
    one = problem(event)
    assert by_operand["lhs"] >= 8 * event.count * whole_elements(one, "lhs")
    assert by_operand["rhs"] >= 8 * event.count * whole_elements(one, "rhs")


def test_a_stored_mapping_serves_layers_that_differ_in_name_only():
    machine = profile()
    assert best(gemm(8, 8, 8, layer="a"), machine) is best(gemm(8, 8, 8, layer="b"), machine)


def test_nothing_of_size_zero_costs_anything():
    found = best(gemm(0, 4, 4), profile())
    assert (found.cycles, found.traffic.crossings, found.tiles) == (0, (), ())


def test_a_memory_that_is_too_small_is_named():
    with pytest.raises(MappingError, match=r"memory\.accumulator: .* takes 16 bytes .* half .* 8 bytes"):
        best(gemm(8, 8, 8), profile(accumulator_bytes=16))


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        best(gemm(4, 4, 4), profile(), "cycle")
