"""The total cost of a trace without its split by layer, role and kind: what a sweep needs of each machine.

`condensed` groups the events that any machine prices alike, once for all machines; `total_cost` prices one of each
group and multiplies. It is `estimate(...).total`, which is its definition: counts are equal, energies but for the
order of summation. Where the vector unit works beside the array, or results become codes on their way out, events are
priced in their order, by `estimate`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

from hw_models.cost import Cost, Sum
from hw_models.estimate import estimate
from hw_models.footprint import Footprint, footprint_of
from hw_models.fusion import fused
from hw_models.gemm_cost import priced_gemm
from hw_models.interconnect_cost import all_reduce_cost
from hw_models.mapping.search import Objective
from hw_models.notes import footprint_notes, gemm_notes, vector_notes
from hw_models.operands import gemm_modes
from hw_models.pricing import Pricing
from hw_models.profile import HardwareProfile
from hw_models.requantization import requantizes
from hw_models.vector_cost import vector_cost
from lowbit_sim.trace import Event, GemmEvent, VectorEvent, WorkloadTrace


@dataclass(frozen=True, kw_only=True)
class CondensedTrace:
    """A trace and its events by what they cost.

    Attributes:
        trace: All events in order.
        counts: Each different event, and how many of it there are.
        fused: The same where neighbours are fused.
        footprint: Bytes that training keeps.
        numerics: An event of each kind of numerics: notes do not depend on sizes.
    """

    trace: WorkloadTrace
    counts: tuple[tuple[Event, int], ...]
    fused: tuple[tuple[Event, int], ...]
    footprint: Footprint
    numerics: tuple[Event, ...]


def condensed(trace: WorkloadTrace) -> CondensedTrace:
    """Group the events of a trace."""
    return CondensedTrace(
        trace=trace,
        counts=_counted(trace),
        fused=_counted(fused(trace)),
        footprint=footprint_of(trace),
        numerics=tuple({_numerics(event): event for event in reversed(trace.events)}.values())[::-1],
    )


def _counted(trace: WorkloadTrace) -> tuple[tuple[Event, int], ...]:
    return tuple(Counter(map(_anywhere, trace.events)).items())


def _anywhere(event: Event) -> Event:
    """The event without what does not change its cost: where it ran, and what was counted in it."""
    if isinstance(event, GemmEvent):
        return replace(event, layer="", additions=0, overflows=0, backend="")
    return replace(event, layer="", role="overhead", clipped=None, underflowed=None, parameter="")


def _numerics(event: Event) -> tuple[object, ...]:
    if not isinstance(event, GemmEvent):
        return bool(event.random_bits), bool(event.copies)
    accumulator = (event.accumulator_bits, event.outer_bits, event.chunk, event.overflow)
    return (event.role, event.lhs, event.rhs, *accumulator, event.conv and event.conv.stride)


def total_notes(trace: CondensedTrace, profile: HardwareProfile) -> tuple[str, ...]:
    """The notes of `estimate`: where what ran differs from what the machine does, each once.

    Raises:
        UnsupportedOperandError, ValueError: As `total_cost`.
    """
    notes: dict[str, None] = {}
    for event in trace.numerics:
        if isinstance(event, GemmEvent):
            notes.update(dict.fromkeys(gemm_notes(event, profile, gemm_modes(event, profile))))
        else:
            notes.update(dict.fromkeys(vector_notes(event, profile)))
    return (*notes, *footprint_notes(trace.footprint, profile))


def total_cost(
    trace: CondensedTrace, profile: HardwareProfile, *, objective: Objective = "cycles", devices: int = 1
) -> Cost:
    """The cost of all events on one of the machines that share the work.

    Args:
        trace: The events on one machine.
        profile: The machine.
        objective: What GEMMs are mapped for: "cycles", "energy" or "edp".
        devices: Equal machines that train together.

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply or hold.
        ValueError: An unknown objective, or devices without an interconnect.
    """
    if profile.vector.overlaps_array or requantizes(trace.trace, profile):
        return estimate(trace.trace, profile, objective=objective, devices=devices).total
    pricing = Pricing(profile=profile, objective=objective)
    vectors = _vector_costs(*(getattr(profile, table) for table in _BESIDE_ARRAY))
    whole = Sum()
    for event, count in trace.fused if profile.vector.fuses else trace.counts:
        if isinstance(event, GemmEvent):
            cost = priced_gemm(event, pricing).cost
        else:
            cost = vectors.get(event) or vectors.setdefault(event, vector_cost(event, pricing))
        whole.add(cost, count)
    whole.add(all_reduce_cost(trace.footprint.gradients, devices, pricing))
    return whole.cost(pricing.energies.static)


#: The tables that the cost of vector work may depend on: all but the array's.
_BESIDE_ARRAY = tuple(table for table in HardwareProfile.model_fields if table not in ("array", "area"))


@lru_cache(maxsize=256)
def _vector_costs(*tables: object) -> dict[VectorEvent, Cost]:
    """The costs of vector work so far, on machines that differ in their arrays alone: most of a sweep's are such."""
    return {}
