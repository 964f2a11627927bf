"""Vector work beside the array: the longest of array, vector unit and memories for each GEMM's group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.mapping.problem import Beside
from hw_models.overlap import beside, group_cycles, groups
from hw_models.priced_trace import event_cost, priced_trace
from hw_models.pricing import Pricing
from hw_models.ranges import NOTHING
from lowbit_sim.trace import Event, VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

OVERLAPS = ("overlaps_array = false", "overlaps_array = true")
FAST_DRAM = ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000")


def work(operations: int, moved: int = 0, layer: str = "fc") -> VectorEvent:
    return VectorEvent(kind="activation", elements=operations, read_bytes=moved, write_bytes=0, layer=layer)


def shown(*events: Event, changes: tuple[tuple[str, str], ...] = (FAST_DRAM,)) -> list[int]:
    pricing = Pricing(profile=tiny(OVERLAPS, *changes))
    return [cost.cycles for cost in priced_trace(WorkloadTrace(list(events)), pricing).costs]


@pytest.mark.parametrize(
    ("events", "cycles"),
    [
        # The GEMM takes 28 cycles; 4 operations take one.
        ([work(40), gemm()], [0, 28]),
        ([work(200), gemm()], [22, 28]),
        ([work(100), gemm(), work(100)], [22, 28, 0]),  # 50 of vector work, 28 of it beside the array
        ([work(100, layer="a"), gemm()], [25, 28]),  # another layer's
        ([work(40), work(40)], [10, 10]),  # no GEMM
        ([], []),
    ],
)
def test_vector_work_of_the_layer_hides_behind_its_gemm(events, cycles):
    assert shown(*events) == cycles


def test_each_gemm_has_the_work_before_it_and_the_last_one_also_that_after_it():
    events = [work(200), gemm(), work(40), gemm(role="grad_input"), work(40)]
    assert shown(*events) == [50 - 28, 28, 0, 28, 0]


def test_the_memories_are_shared():
    """64 bytes of operands in, 64 out, at 4 bytes a cycle: 32 cycles; 40 bytes more are 10 more."""
    assert shown(work(4, moved=40), gemm(), changes=()) == [10, 32]
    # With operations enough the vector unit hides its own transfers.
    assert shown(work(400, moved=40), gemm(), changes=()) == [100 - 32, 32]


def test_a_gemm_on_the_vector_unit_is_vector_work():
    native = gemm(lhs="fp32", rhs="fp32", overflow="float")  # 64 cycles, of which 32 compute
    assert shown(native, gemm()) == [(1024 + 128) // 16 + 0 - 28, 28]
    report = hw_models.estimate(WorkloadTrace([native, gemm()]), tiny(OVERLAPS, FAST_DRAM))
    assert [priced.cost.cycles for _, priced in report.gemms] == [(1024 + 128) // 16 - 28, 28]


def test_a_machine_without_overlap_runs_one_after_the_other():
    trace = WorkloadTrace([work(100), gemm()])
    assert hw_models.estimate(trace, tiny(FAST_DRAM)).cycles == 25 + 28
    assert hw_models.estimate(trace, tiny(FAST_DRAM, OVERLAPS)).cycles == 28


sizes = st.integers(1, 40)
events = st.one_of(
    st.builds(lambda m, n, k, layer: gemm(m, n, k, layer=layer), sizes, sizes, sizes, st.sampled_from("ab")),
    st.builds(work, st.integers(0, 5000), st.integers(0, 5000), st.sampled_from("ab")),
)


def test_groups_end_behind_each_gemm_but_the_layers_last():
    events = [work(1), gemm(), work(1), gemm(), work(1), work(1, layer="b"), gemm(layer="c"), gemm()]
    on_array = [event.layer != "c" and not isinstance(event, VectorEvent) for event in events]
    found = [(part.start, part.stop) for part in groups(events, on_array)]
    assert found == [(0, 2), (2, 5), (5, 6), (6, 7), (7, 8)]
    assert list(groups([], [])) == []


def test_what_runs_beside_a_gemm_is_summed_by_memory():
    pricing = Pricing(profile=tiny())
    costs = [event_cost(work(200, moved=10), pricing), event_cost(work(40), pricing)]
    assert beside(costs) == Beside(cycles=60, bits=(("dram", 80), ("sram", 160)))


def test_the_mapping_leaves_bandwidth_to_the_vector_work():
    """With 100,000 bits of vector work outside, another mapping than the fastest one ends sooner."""
    small = (
        ("capacity_bytes = 4096", "capacity_bytes = 500"),
        ("capacity_bytes = 1024", "capacity_bytes = 500"),
        ("bandwidth_bytes_per_cycle = 16", "bandwidth_bytes_per_cycle = 8"),
        ("bandwidth_bytes_per_cycle = 32", "bandwidth_bytes_per_cycle = 8"),
        ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 1000"),
        ("rows = 4", "rows = 2"),
        ("columns = 4", "columns = 2"),
    )
    event, other = gemm(128, 8, 32), work(4, moved=12_500)
    machine = tiny(OVERLAPS, *small)
    report = hw_models.estimate(WorkloadTrace([other, event]), machine)
    pricing = Pricing(profile=machine)
    alone, vector = event_cost(event, pricing), event_cost(other, pricing)
    assert report.cycles < group_cycles([vector, alone], [False, True], pricing)
    assert report.by_kind["gemm"].cycles >= alone.cycles


@given(st.lists(events, max_size=8), st.sampled_from([400, 4000, 400_000]))
def test_never_slower_than_apart_nor_faster_than_each_part(members, bandwidth):
    changes = ((FAST_DRAM[0], f"bandwidth_bytes_per_second = {bandwidth}"),)
    trace = WorkloadTrace(members)
    apart = hw_models.estimate(trace, tiny(*changes))
    together = hw_models.estimate(trace, tiny(OVERLAPS, *changes))
    assert together.cycles <= apart.cycles
    # What the mapping does not decide stays as it is.
    assert together.total.macs == apart.total.macs
    for name in ("multiply", "add", "registers", "vector"):
        ours, theirs = (report.energy.get(name, NOTHING).nominal_pj for report in (together, apart))
        assert ours == pytest.approx(theirs)
    gemms = apart.by_kind["gemm"].cycles if trace.gemms else apart.cycles
    assert together.cycles >= gemms
    vector = sum(cost.compute_cycles for kind, cost in apart.by_kind.items() if kind != "gemm")
    assert together.cycles >= vector
    assert together.cycles * bandwidth >= together.bytes * 1000
    assert sum(together.total.cycles_by_bound.values()) == together.cycles
