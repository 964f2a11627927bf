"""The all-reduce between machines: closed forms, and the ring simulated step by step."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.interconnect_cost import (
    all_reduce_cost,
    messages,
    sent_bytes,
    torus_sides,
    transfer_seconds,
)
from hw_models.pricing import Pricing
from hw_models.schema.interconnect import Interconnect
from lowbit_sim.trace import VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

LINKS = """
[interconnect]
source = "assumption: round numbers"
topology = "ring"
link_bandwidth_bytes_per_second = 100
links_per_device = 2
latency_s = 0.5
pj_per_bit = 3.0
"""


def linked(topology: str = "ring", *changes: tuple[str, str]) -> hw_models.HardwareProfile:
    table = LINKS.replace('"ring"', f'"{topology}"')
    return tiny(("static_power_w = 0.0\n", "static_power_w = 0.0\n" + table), *changes)


def links(topology: str) -> Interconnect:
    found = linked(topology).interconnect
    assert found is not None
    return found


def simulated_ring(size: int, devices: int) -> tuple[int, int]:
    """Steps and bytes of one machine in a ring: in each step everyone passes on one of n parts."""
    parts = [[(device, part) for part in range(devices)] for device in range(devices)]
    sums = [[{device} for _ in range(devices)] for device in range(devices)]
    steps = sent = 0
    for phase in range(2):
        for step in range(devices - 1):
            moves = [((d + phase - step) % devices, d) for d in range(devices)]
            held = {(part, d): set(sums[d][part]) for part, d in moves}
            for part, d in moves:
                sums[(d + 1) % devices][part] |= held[part, d]
            steps, sent = steps + 1, sent + size // devices
    assert all(len(part) == devices for device in sums for part in device)
    assert len(parts) == devices
    return steps, sent


@pytest.mark.parametrize("devices", [2, 3, 4, 7, 8])
def test_a_ring_step_by_step(devices):
    size = 840 * devices
    steps, sent = simulated_ring(size, devices)
    assert (messages(devices, links("ring")), sent_bytes(size, devices)) == (steps, sent)
    assert transfer_seconds(size, devices, links("ring")) == Fraction(sent, 2 * 100)


def simulated_torus(size: int, rows: int, columns: int) -> Fraction:
    """Seconds of one half along rows first, the other along columns first, both on links of half the bandwidth."""
    half = Fraction(size, 2)

    def phases(first: int, second: int) -> list[Fraction]:
        along = half * Fraction(first - 1, first)
        across = 2 * (half / first) * Fraction(second - 1, second)
        return [along, across, along]

    both = zip(phases(columns, rows), phases(rows, columns), strict=True)
    return sum((max(pair) for pair in both), start=Fraction(0)) / 100


@pytest.mark.parametrize("devices", [2, 4, 6, 9, 12, 13, 64])
def test_a_torus_phase_by_phase(devices):
    rows, columns = torus_sides(devices)
    assert rows * columns == devices
    assert transfer_seconds(1000, devices, links("torus_2d")) == simulated_torus(1000, rows, columns)


def test_a_square_torus_moves_data_as_fast_as_a_ring_in_fewer_messages():
    assert transfer_seconds(999, 16, links("torus_2d")) == transfer_seconds(999, 16, links("ring"))
    assert (messages(16, links("torus_2d")), messages(16, links("ring"))) == (12, 30)


def test_fully_connected_machines_take_two_messages():
    assert messages(100, links("fully_connected")) == 2
    assert transfer_seconds(400, 4, links("fully_connected")) == Fraction(600, 200)


def test_a_ring_by_hand():
    """4 machines, 400 bytes of gradients: each sends 600 bytes at 200 a second, 3 s; 6 messages of 0.5 s more."""
    cost = all_reduce_cost(400, 4, Pricing(profile=linked()))
    assert (cost.cycles, cost.cycles_by_bound) == (6000, {"links": 6000})
    assert cost.energy["interconnect"].nominal_pj == 8 * 600 * 3
    assert cost.energy["vector"].nominal_pj == pytest.approx(75 * 2.3)  # 3/4 of 100 sums
    assert cost.dram_bytes == 800


def test_a_slow_memory_bounds_the_all_reduce():
    slow = linked("ring", ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 200"))
    cost = all_reduce_cost(400, 4, Pricing(profile=slow))
    assert cost.cycles_by_bound == {"dram": 4000, "links": 3000}


def test_one_machine_sums_nothing():
    assert all_reduce_cost(400, 1, Pricing(profile=linked())).cycles == 0
    assert all_reduce_cost(0, 4, Pricing(profile=linked())).cycles == 0


@pytest.mark.parametrize(
    ("profile", "devices", "message"),
    [
        (tiny(), 2, r"tiny has no \[interconnect\]: .*one device instead of 2"),
        (linked(), 0, "one device or more, got devices=0"),
    ],
    ids=["no links", "no devices"],
)
def test_machines_that_can_not_be(profile, devices, message):
    with pytest.raises(ValueError, match=message):
        hw_models.estimate(WorkloadTrace(), profile, devices=devices)


def test_a_step_on_several_machines():
    update = VectorEvent(
        kind="optimizer_update",
        elements=100,
        read_bytes=800,
        write_bytes=400,
        role="update",
        gradient_bytes=400,
    )
    trace = WorkloadTrace([gemm(), update])
    alone, four = (hw_models.estimate(trace, linked(), devices=n) for n in (1, 4))
    assert four.cycles == alone.cycles + 6000
    assert four.by_kind["all_reduce"].cycles == 6000
    assert "all_reduce" not in alone.by_kind
    assert four.by_role["overhead"].cycles == alone.by_role["overhead"].cycles + 6000
    assert (four.devices, alone.devices) == (4, 1)


@given(st.integers(2, 300), st.integers(1, 10**9), st.sampled_from(["ring", "torus_2d", "fully_connected"]))
def test_no_all_reduce_beats_the_least_bytes(devices, size, topology):
    assert transfer_seconds(size, devices, links(topology)) >= Fraction(
        2 * (devices - 1) * size, devices * 200
    )
