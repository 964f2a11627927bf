"""What holds of every machine and of every trace."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.cost import Cost
from hw_models.operands import gemm_modes
from hw_models.priced_trace import event_cost
from hw_models.pricing import Pricing
from hw_models.report import CostReport
from lowbit_sim.trace import Event, GemmEvent, Operand, VectorEvent, WorkloadTrace
from tests.hw_models.machines import tiny
from tests.hw_models.random_machines import gemms, machines, plain_gemms, traces, vectors


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


@given(traces, machines())
def test_parts_sum_to_the_total(trace, machine):
    report = hw_models.estimate(trace, machine)
    for parts in (report.by_role.values(), report.by_layer.values(), report.by_kind.values()):
        for name in ("cycles", "compute_cycles", "macs", "bytes"):
            assert sum(getattr(part, name) for part in parts) == getattr(report.total, name)
        for key, bits in report.total.traffic.items():
            assert sum(part.traffic.get(key, 0) for part in parts) == bits
        for end in ("energy_low_pj", "energy_pj", "energy_high_pj"):
            assert close(sum(getattr(part, end) for part in parts), getattr(report, end))
        assert close(sum(part.ideal_cycles for part in parts), report.total.ideal_cycles)
    for cost in everything(report):
        assert sum(cost.cycles_by_bound.values()) == cost.cycles
        assert close(sum(e.nominal_pj for e in cost.energy.values()), cost.energy_pj)


def everything(report: CostReport) -> list[Cost]:
    return [report.total, *report.by_role.values(), *report.by_layer.values(), *report.by_kind.values()]


@given(traces, machines())
def test_nothing_is_negative_and_energies_are_in_order(trace, machine):
    for cost in everything(hw_models.estimate(trace, machine)):
        assert 0 <= cost.energy_low_pj <= cost.energy_pj <= cost.energy_high_pj
        assert min([0, *cost.traffic.values(), *cost.cycles_by_bound.values()]) >= 0
        assert 0 <= cost.utilization <= 1 + 1e-12


@given(traces, machines())
def test_no_result_beats_the_bandwidth_of_any_memory(trace, machine):
    total = hw_models.estimate(trace, machine).total
    dram = machine.memory.dram.bandwidth_bytes_per_second
    assert total.cycles * dram * 8 >= total.level_bits("dram") * machine.clock.frequency_hz
    for name, level in machine.memory.levels.items():
        assert total.cycles * 8 * level.bandwidth_bytes_per_cycle >= total.level_bits(name)


@given(gemms, machines())
def test_no_gemm_beats_the_peak(event, machine):
    cost = event_cost(event, Pricing(profile=machine))
    modes = gemm_modes(event, machine)
    peak = machine.vector.operations_per_cycle if modes is None else machine.array.macs_per_cycle(modes[2])
    assert cost.cycles * peak >= cost.macs
    skipped = event.conv is not None and machine.array.skips_zeros
    assert cost.macs == event.macs or (skipped and cost.macs < event.macs)


def _faster(
    machine: hw_models.HardwareProfile, level: str, key: str, factor: int
) -> hw_models.HardwareProfile:
    memory = machine.memory
    table = memory.dram if level == "dram" else memory.levels[level]
    larger = table.model_copy(update={key: factor * getattr(table, key)})
    return machine.model_copy(update={"memory": memory.model_copy(update={level: larger})})


@given(traces, machines(), st.data(), st.integers(2, 50))
def test_more_bandwidth_is_never_slower(trace, machine, data, factor):
    level = data.draw(st.sampled_from(["dram", *machine.memory.levels]))
    key = "bandwidth_bytes_per_second" if level == "dram" else "bandwidth_bytes_per_cycle"
    better = _faster(machine, level, key, factor)
    assert hw_models.estimate(trace, better).cycles <= hw_models.estimate(trace, machine).cycles


@given(traces, machines(), st.data(), st.integers(2, 9))
def test_more_memory_is_never_slower_nor_takes_more_energy(trace, machine, data, factor):
    level = data.draw(st.sampled_from(list(machine.memory.levels)))
    better = _faster(machine, level, "capacity_bytes", factor)
    assert hw_models.estimate(trace, better).cycles <= hw_models.estimate(trace, machine).cycles
    ours, theirs = (_switching_pj(trace, m) for m in (better, machine))
    assert ours <= theirs * (1 + 1e-9)


def _switching_pj(trace: WorkloadTrace, machine: hw_models.HardwareProfile) -> float:
    """Energy without static power, mapped for the least of it."""
    report = hw_models.estimate(trace, machine, objective="energy")
    return sum(e.nominal_pj for name, e in report.energy.items() if name != "static")


integer_gemms = gemms.map(
    lambda e: replace(
        e, lhs=Operand(format="int8", bits=8), rhs=Operand(format="int8", bits=8), overflow="wrap"
    )
)


@given(integer_gemms, machines(), st.sampled_from(["lhs", "rhs", "both"]))
def test_half_the_bit_width_never_takes_more_energy(event, machine, side):
    sides = ("lhs", "rhs") if side == "both" else (side,)
    narrow = replace(event, **{s: Operand(format="int4", bits=4) for s in sides})
    ours, theirs = (_switching_pj(WorkloadTrace([e]), machine) for e in (narrow, event))
    assert ours <= theirs * (1 + 1e-9)


@given(plain_gemms, machines())
def test_a_narrower_accumulator_never_takes_more_energy(event, machine):
    narrow = replace(event, accumulator_bits=event.accumulator_bits // 2, outer_bits=event.outer_bits // 2)
    ours, theirs = (_switching_pj(WorkloadTrace([e]), machine) for e in (narrow, event))
    assert ours <= theirs * (1 + 1e-9)


def _transposed(event: GemmEvent) -> GemmEvent:
    return replace(event, M=event.N, N=event.M, lhs=event.rhs, rhs=event.lhs, role="overhead")


array_gemms = plain_gemms.filter(lambda event: event.overflow == "wrap")


@given(
    array_gemms,
    st.data(),
    st.sampled_from([("ws", "is"), ("os", "os")]),
    st.sampled_from(["cycles", "energy"]),
)
def test_transposing_the_gemm_and_the_dataflow_together_changes_nothing(event, data, dataflows, objective):
    """Outputs lie over rows and columns, so there the array is turned too; ws and is lay K over the rows."""
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    turned = (columns, rows) if dataflows[0] == "os" else (rows, columns)
    reports = []
    for dataflow, (r, c), one in (
        (dataflows[0], (rows, columns), replace(event, role="overhead")),
        (dataflows[1], turned, _transposed(event)),
    ):
        machine = tiny(
            ('dataflow = "ws"', f'dataflow = "{dataflow}"'),
            ("rows = 4", f"rows = {r}"),
            ("columns = 4", f"columns = {c}"),
        )
        reports.append(hw_models.estimate(WorkloadTrace([one]), machine, objective=objective))
    ours, theirs = reports
    assert (ours.cycles, ours.bytes, ours.macs) == (theirs.cycles, theirs.bytes, theirs.macs)
    assert ours.energy_pj == pytest.approx(theirs.energy_pj, rel=1e-12)


def _times(event: Event, factor: int) -> Event:
    """An event of a batch that is larger by a factor."""
    if isinstance(event, VectorEvent):
        names = ("elements", "read_bytes", "write_bytes", "random_bits")
        return replace(event, **{name: factor * getattr(event, name) for name in names})
    conv = event.conv and replace(event.conv, batch=factor * event.conv.batch)
    batch = "K" if event.role == "grad_weight" else "M"
    return replace(event, conv=conv, **{batch: factor * getattr(event, batch)})


def _passes_over_results(events: list[Event], machine: hw_models.HardwareProfile) -> Cost:
    """What it costs to write all results and to read them back once more at every memory.

    The gradients of two half batches are summed up in memory, those of a whole one too, but for one pass more.
    """
    bits = sum(e.count * e.M * e.N * e.outer_bits for e in events if isinstance(e, GemmEvent))
    pricing = Pricing(profile=machine)
    memories = [*machine.memory.levels, "dram"]
    cycles = sum(pricing.memory_cycles({(name, "result"): 2 * bits for name in memories}).values())
    energies = pricing.energies
    each = [*energies.read.values(), *energies.write.values(), energies.dram_read, energies.dram_write]
    return Cost(cycles=cycles, energy={str(i): e.scaled(bits) for i, e in enumerate(each)})


@given(st.lists(gemms | vectors, max_size=3), machines(stages=1))
def test_twice_the_batch_takes_at_most_twice_the_cost_and_a_fixed_one(events, machine):
    """Of batches that fill whole folds of the array, two products at once included."""
    array = machine.array
    folds = 2 * math.lcm(array.rows, array.columns, array.pixel_rows * array.pixel_columns)
    once, twice = ([_times(e, n * folds) for e in events] for n in (1, 2))
    fixed = _passes_over_results(once, machine)
    ours, theirs = (hw_models.estimate(WorkloadTrace(t), machine) for t in (twice, once))
    assert ours.cycles <= 2 * theirs.cycles + fixed.cycles
    more, less = (_switching_pj(WorkloadTrace(t), machine) for t in (twice, once))
    assert more <= (2 * less + fixed.energy_pj) * (1 + 1e-9)


@given(plain_gemms, st.integers(2, 4), machines(overlap=False))
def test_equal_gemms_cost_the_more_the_more_there_are(event, factor, machine):
    more = replace(event, count=factor * event.count)
    one, many = (event_cost(e, Pricing(profile=machine)) for e in (event, more))
    assert one.cycles <= many.cycles <= factor * one.cycles
    assert many.energy_pj >= one.energy_pj
