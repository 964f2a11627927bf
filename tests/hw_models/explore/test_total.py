from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.explore.overrides import with_overrides
from hw_models.explore.total import condensed, total_cost, total_notes
from lowbit_sim.trace import ROLES, VECTOR_KINDS, Event, GemmEvent, VectorEvent, WorkloadTrace
from tests.hw_models.explore.test_sweep import PROFILE, gemm

LINKS = """
[interconnect]
source = "assumption: round numbers"
topology = "ring"
link_bandwidth_bytes_per_second = 1_000_000_000
links_per_device = 2
latency_s = 1e-6
pj_per_bit = 10.0
"""
LINKED = hw_models.parse(
    hw_models.template("box").replace("static_power_w = 0.0", "static_power_w = 0.5") + LINKS, "box.toml"
)

LAYERS = st.sampled_from(["a", "b", ""])
GEMMS = st.builds(
    lambda event, layer, role, count: replace(event, layer=layer, role=role, count=count),
    st.builds(gemm, *[st.integers(0, 70)] * 3),
    LAYERS,
    st.sampled_from(ROLES[:3]),
    st.integers(0, 3),
)
VECTORS = st.builds(
    VectorEvent,
    kind=st.sampled_from(VECTOR_KINDS),
    elements=st.integers(0, 5000),
    read_bytes=st.integers(0, 5000),
    write_bytes=st.integers(0, 5000),
    role=st.sampled_from(ROLES),
    layer=LAYERS,
    random_bits=st.integers(0, 500),
    clipped=st.sampled_from([None, 0, 3]),
)
#: Few different events, so that many are alike.
TRACES = st.lists(st.one_of(GEMMS, VECTORS), max_size=4).flatmap(
    lambda few: st.lists(st.sampled_from(few), max_size=12) if few else st.just([])
)


def assert_equal_costs(mine: hw_models.Cost, theirs: hw_models.Cost) -> None:
    for name in ("cycles", "compute_cycles", "macs", "dram_bytes", "traffic", "cycles_by_bound"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert mine.ideal_cycles == pytest.approx(theirs.ideal_cycles, rel=1e-12)
    assert mine.energy.keys() == theirs.energy.keys()
    for name, energy in mine.energy.items():
        for end in ("low_pj", "nominal_pj", "high_pj"):
            assert getattr(energy, end) == pytest.approx(getattr(theirs.energy[name], end), rel=1e-12)


@given(
    events=TRACES,
    devices=st.sampled_from([1, 4]),
    overlap=st.booleans(),
    objective=st.sampled_from(["cycles", "energy"]),
)
def test_it_is_the_estimates_total(events: list[Event], devices: int, overlap: bool, objective):
    trace = WorkloadTrace(events)
    machine = with_overrides(LINKED, {"vector.overlaps_array": overlap})
    report = hw_models.estimate(trace, machine, objective=objective, devices=devices)
    found = total_cost(condensed(trace), machine, objective=objective, devices=devices)
    assert_equal_costs(found, report.total)


@given(events=TRACES, bits=st.sampled_from([8, 16]), random=st.booleans())
def test_its_notes_are_the_estimates(events: list[Event], bits: int, random: bool):
    """An 8-bit format in a 16-bit mode, another accumulator and random bits without a unit have notes."""
    trace = WorkloadTrace(events)
    overrides = {"array.modes.0.operand_bits": bits, "memory.dram.capacity_bytes": 1 << 30}
    machine = with_overrides(LINKED, overrides | ({} if random else {"vector.random_bits_per_cycle": 0}))
    assert sorted(total_notes(condensed(trace), machine)) == sorted(hw_models.estimate(trace, machine).notes)


def test_events_alike_but_for_their_place_are_one():
    first = gemm()
    other = replace(first, layer="other", additions=9, overflows=None, backend="torch_exact")
    relu = VectorEvent(kind="activation", elements=1, read_bytes=1, write_bytes=1, layer="x", role="output")
    elsewhere = replace(relu, layer="y", role="overhead", clipped=4, underflowed=2)
    counts = condensed(WorkloadTrace([first, relu, other, elsewhere])).counts
    assert [count for _, count in counts] == [2, 2]
    assert all(event.layer == "" for event, _ in counts)


def test_what_changes_a_cost_keeps_events_apart():
    events = [gemm(), replace(gemm(), role="grad_input"), replace(gemm(), outer_bits=16), gemm(65)]
    assert len(condensed(WorkloadTrace(list[Event](events))).counts) == 4


def test_devices_without_links_are_an_error():
    with pytest.raises(ValueError, match="no \\[interconnect\\]"):
        total_cost(condensed(WorkloadTrace([GemmEvent(**vars(gemm()))])), PROFILE, devices=2)
