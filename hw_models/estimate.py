"""Prices a trace on a machine: the cost of each event, and their sums.

    cycles of an event = the longest of compute and of the bytes at each memory over its bandwidth
    energy             = arithmetic + traffic + vector work + links + static power x time

Transfers are double buffered where the memory is. Events run one after the other, but for what the machine says of
vector work beside the array (`overlap`), of element-wise work that is fused (`fusion`) and of results that leave as
codes (`requantization`). A GEMM's compute cycles are those of `compute`, its tiles and traffic those of `mapping`,
energies those of `energy`; all in closed form, nothing is simulated.

A GEMM that the array has no mode for runs on the vector unit. The peak rate that bounds it is the unit's; it uses
none of the array's, so it adds to the time that `utilization` divides by and not to the ideal cycles.

Events that differ only in where they ran share one cost, so a deep network costs as much to price as its distinct
layers.
"""

from __future__ import annotations

from hw_models.area import array_area_mm2
from hw_models.footprint import footprint_of
from hw_models.fusion import fused
from hw_models.interconnect_cost import all_reduce_cost
from hw_models.mapping.search import Objective
from hw_models.notes import footprint_notes
from hw_models.priced_trace import priced_trace
from hw_models.pricing import Pricing
from hw_models.profile import HardwareProfile
from hw_models.report import CostReport, Row
from hw_models.requantization import requantized
from lowbit_sim.trace import Event, GemmEvent, WorkloadTrace

GEMM = "gemm"
ALL_REDUCE = "all_reduce"


def estimate(
    trace: WorkloadTrace,
    profile: HardwareProfile,
    *,
    objective: Objective = "cycles",
    devices: int = 1,
) -> CostReport:
    """The cost of everything that ran, on each of the machines that share it.

    Args:
        trace: The events on one machine: its part of the batch.
        profile: The machine.
        objective: What GEMMs are mapped for: "cycles", "energy" or "edp".
        devices: Equal machines that train together; more than one add up their gradients over [interconnect].

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply or hold.
        ValueError: An unknown objective, a GEMM with an unknown overflow, or devices without an interconnect.
    """
    pricing = Pricing(profile=profile, objective=objective)
    trace = requantized(trace, profile)
    footprint = footprint_of(trace)
    reduced = all_reduce_cost(footprint.gradients, devices, pricing)
    priced = priced_trace(fused(trace) if profile.vector.fuses else trace, pricing)
    rows: list[Row] = [
        (e.role, e.layer, _kind(e), cost) for e, cost in zip(trace.events, priced.costs, strict=True)
    ]
    if reduced.cycles:
        rows.append(("overhead", "", ALL_REDUCE, reduced))
    return CostReport(
        machine=profile.machine.name,
        frequency_hz=profile.clock.frequency_hz,
        rows=tuple(rows),
        static=pricing.energies.static,
        gemms=priced.gemms,
        footprint=footprint,
        devices=devices,
        area_mm2=array_area_mm2(profile),
        notes=(*priced.notes, *footprint_notes(footprint, profile)),
    )


def _kind(event: Event) -> str:
    return GEMM if isinstance(event, GemmEvent) else event.kind
