"""Prices a trace on a machine: for every event

    cycles = max(compute, DRAM bytes / bandwidth, on-chip bytes / bandwidth)
    energy = arithmetic + on-chip traffic + DRAM traffic + vector work + static power x time

since transfers are double buffered; events run one after the other. Compute cycles are the closed forms of
`cycles`, traffic that of `memory`, energy that of `energy`; nothing is simulated. A mode that takes p
products along the reduction in a processing element shortens the reduction to ceil(K / p) and leaves the
array's size, hence its fill time, as it is.

A GEMM of floats that the array has no mode for runs on the vector unit, one element of vector work for each
multiply-accumulate. The peak rate that bounds it is the unit's; it uses none of the array's, so it adds to the
time that `utilization` divides by and not to the ideal cycles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from hw_models import energy
from hw_models.cycles import ceil_div, systolic_schedule
from hw_models.memory import Traffic, gemm_traffic, vector_gemm_traffic, vector_traffic
from hw_models.notes import gemm_notes, vector_notes
from hw_models.operands import gemm_modes
from hw_models.profile import HardwareProfile
from hw_models.report import Cost, CostReport, EnergySplit, total
from lowbit_sim.trace import ROLES, Event, GemmEvent, VectorEvent, WorkloadTrace

Key = TypeVar("Key", bound=str)


def estimate(trace: WorkloadTrace, profile: HardwareProfile) -> CostReport:
    """The cost of everything that ran.

    Args:
        trace: The events.
        profile: The machine.

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply.
        ValueError: A GEMM of integers with an unknown overflow, or of a size that can't be.
    """
    costs = [(event, event_cost(event, profile)) for event in trace.events]
    by_layer = _grouped(((event.layer, cost) for event, cost in costs), ())
    notes = [note for event in trace.gemms for note in gemm_notes(event, profile)]
    notes += [note for event in trace.vectors for note in vector_notes(event, profile)]
    return CostReport(
        machine=profile.machine.name,
        frequency_hz=profile.clock.frequency_hz,
        total=total(cost for _, cost in costs),
        by_role=_grouped(((event.role, cost) for event, cost in costs), ROLES),
        by_layer=by_layer,
        notes=tuple(dict.fromkeys(notes)),
    )


def event_cost(event: Event, profile: HardwareProfile) -> Cost:
    """The cost of one event; raises as `estimate` does."""
    return gemm_cost(event, profile) if isinstance(event, GemmEvent) else vector_cost(event, profile)


def gemm_cost(event: GemmEvent, profile: HardwareProfile) -> Cost:
    """The cost of a GEMM event, all `count` GEMMs of it.

    Raises:
        UnsupportedOperandError: The machine can't multiply the operands.
    """
    modes = gemm_modes(event, profile)
    if modes is None:
        return _vector_gemm_cost(event, profile)
    array = profile.array
    lhs, rhs, mode = modes
    packed = ceil_div(event.K, mode.macs_per_pe_per_cycle)
    schedule = systolic_schedule(
        event.M, event.N, packed, rows=array.rows, cols=array.columns, dataflow=array.dataflow
    )
    traffic = gemm_traffic(event, schedule, profile, lhs_bits=lhs.operand_bits, rhs_bits=rhs.operand_bits)
    return _cost(
        profile,
        traffic,
        compute_cycles=schedule.cycles(count=event.count, arrays=array.arrays),
        macs=event.macs,
        ideal_cycles=event.macs / array.macs_per_cycle(mode),
        multiply_add_pj=energy.gemm_arithmetic_pj(event, profile, mode),
    )


def _vector_gemm_cost(event: GemmEvent, profile: HardwareProfile) -> Cost:
    """The cost of a GEMM on the vector unit."""
    return _cost(
        profile,
        vector_gemm_traffic(event),
        compute_cycles=ceil_div(event.macs, profile.vector.elements_per_cycle),
        macs=event.macs,
        vector_pj=energy.vector_pj(profile, elements=event.macs, random_bits=0),
    )


def vector_cost(event: VectorEvent, profile: HardwareProfile) -> Cost:
    """The cost of vector work: elements over lanes, random bits over their unit, bytes over the memories.

    A machine without a unit for random bits computes them in the vector unit.
    """
    unit = profile.vector
    drawn = event.random_bits if unit.random_bits_per_cycle else 0
    elements = event.elements + unit.random_bits_as_elements(event.random_bits)
    working = ceil_div(elements, unit.elements_per_cycle)
    return _cost(
        profile,
        vector_traffic(event.read_bytes, event.write_bytes),
        compute_cycles=max(working, ceil_div(drawn, unit.random_bits_per_cycle or 1)),
        vector_pj=energy.vector_pj(profile, elements=elements, random_bits=drawn),
    )


def memory_cycles(traffic: Traffic, profile: HardwareProfile) -> int:
    """Cycles that the slowest memory needs for some traffic."""
    memory = profile.memory
    return max(
        ceil_div(traffic.dram_bytes * profile.clock.frequency_hz, memory.dram.bandwidth_bytes_per_second),
        ceil_div(traffic.sram_bits, 8 * memory.sram.bandwidth_bytes_per_cycle),
        ceil_div(traffic.accumulator_bits, 8 * memory.accumulator.bandwidth_bytes_per_cycle),
    )


def _cost(
    profile: HardwareProfile,
    traffic: Traffic,
    *,
    compute_cycles: int,
    macs: int = 0,
    ideal_cycles: float = 0.0,
    multiply_add_pj: float = 0.0,
    vector_pj: float = 0.0,
) -> Cost:
    cycles = max(compute_cycles, memory_cycles(traffic, profile))
    return Cost(
        cycles=cycles,
        compute_cycles=compute_cycles,
        macs=macs,
        ideal_cycles=ideal_cycles,
        dram_bytes=traffic.dram_bytes,
        sram_bytes=ceil_div(traffic.sram_bits + traffic.accumulator_bits, 8),
        energy=EnergySplit(
            multiply_add_pj=multiply_add_pj,
            sram_pj=energy.sram_pj(profile, traffic),
            dram_pj=energy.dram_pj(profile, traffic),
            vector_pj=vector_pj,
            static_pj=energy.static_pj(profile, cycles),
        ),
    )


def _grouped(costs: Iterable[tuple[Key, Cost]], keys: Iterable[Key]) -> dict[Key, Cost]:
    """The total for each key: the given keys first, then others as they come."""
    groups: dict[Key, list[Cost]] = {key: [] for key in keys}
    for key, cost in costs:
        groups.setdefault(key, []).append(cost)
    return {key: total(members) for key, members in groups.items()}
