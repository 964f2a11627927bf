"""The cost of each event of a trace, those that differ only in where they ran worked out once.

Where the vector unit works beside the array, an event's cost depends on its group (`overlap`): groups of like events
are then worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from hw_models.cost import Cost
from hw_models.gemm_cost import GemmCost, priced_gemm
from hw_models.mapping.problem import Beside
from hw_models.notes import gemm_notes, vector_notes
from hw_models.operands import gemm_modes
from hw_models.overlap import beside, groups, overlapped
from hw_models.pricing import Pricing
from hw_models.vector_cost import vector_cost
from lowbit_sim.trace import Event, GemmEvent, VectorEvent, WorkloadTrace


@dataclass(frozen=True, kw_only=True)
class PricedTrace:
    """The costs of a trace's events, without static power.

    Attributes:
        costs: The cost of each event.
        gemms: Each GEMM event with its cost, mode and mapping.
        notes: What there is to say about them, each once.
    """

    costs: tuple[Cost, ...]
    gemms: tuple[tuple[GemmEvent, GemmCost], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Kind:
    """Events that differ only in where they ran.

    Attributes:
        event: One of them.
        alone: What it costs; None for a GEMM on the array, whose mapping depends on what runs beside it.
    """

    event: Event
    alone: Cost | GemmCost | None

    @property
    def on_array(self) -> bool:
        return self.alone is None


def _cost(priced: Cost | GemmCost) -> Cost:
    return priced.cost if isinstance(priced, GemmCost) else priced


@dataclass(frozen=True)
class _Known:
    """Costs so far, by what decides them."""

    pricing: Pricing
    kinds: dict[tuple[object, ...], _Kind] = field(default_factory=dict)
    gemms: dict[tuple[_Kind, Beside], GemmCost] = field(default_factory=dict)
    groups: dict[tuple[_Kind, ...], list[Cost | GemmCost]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    noted: set[tuple[object, ...]] = field(default_factory=set)

    def kind(self, event: Event) -> _Kind:
        key = gemm_signature(event) if isinstance(event, GemmEvent) else _vector_signature(event)
        found = self.kinds.get(key)
        if found is None:
            found = self.kinds[key] = _Kind(event, self._alone(event))
        return found

    def _alone(self, event: Event) -> Cost | GemmCost | None:
        profile = self.pricing.profile
        if not isinstance(event, GemmEvent):
            self.notes.update(dict.fromkeys(vector_notes(event, profile)))
            return vector_cost(event, self.pricing)
        self._note(event)
        return None if gemm_modes(event, profile) else priced_gemm(event, self.pricing)

    def _note(self, event: GemmEvent) -> None:
        """Notes do not depend on sizes."""
        stride = event.conv and event.conv.stride
        numerics = (event.accumulator_bits, event.outer_bits, event.chunk, event.overflow)
        key = (event.role, event.lhs, event.rhs, *numerics, stride)
        if key not in self.noted:
            profile = self.pricing.profile
            self.notes.update(dict.fromkeys(gemm_notes(event, profile, gemm_modes(event, profile))))
            self.noted.add(key)

    def group(self, members: tuple[_Kind, ...]) -> list[Cost | GemmCost]:
        """The costs of events that run together, or of a single event."""
        found = self.groups.get(members)
        if found is None:
            found = self.groups[members] = self._priced(members)
        return found

    def _priced(self, members: tuple[_Kind, ...]) -> list[Cost | GemmCost]:
        shared = beside(_cost(kind.alone) for kind in members if kind.alone is not None)
        priced = [kind.alone or self._gemm(kind, shared) for kind in members]
        costs, on_array = [_cost(each) for each in priced], [kind.on_array for kind in members]
        shown = overlapped(costs, on_array, self.pricing)
        return [_showing(each, cost) for each, cost in zip(priced, shown, strict=True)]

    def _gemm(self, kind: _Kind, shared: Beside) -> GemmCost:
        found = self.gemms.get((kind, shared))
        if found is None:
            assert isinstance(kind.event, GemmEvent)
            found = self.gemms[kind, shared] = priced_gemm(kind.event, self.pricing, shared)
        return found


def _showing(priced: Cost | GemmCost, shown: Cost) -> Cost | GemmCost:
    """A cost as it is shown: a GEMM on the vector unit may be hidden by another one on the array."""
    if not isinstance(priced, GemmCost):
        return shown
    return priced if priced.cost is shown else replace(priced, cost=shown)


def _vector_signature(event: VectorEvent) -> tuple[object, ...]:
    sizes = (event.elements, event.read_bytes, event.write_bytes)
    return (event.kind, *sizes, event.random_bits, bool(event.copies))


def gemm_signature(event: GemmEvent) -> tuple[object, ...]:
    """What decides the cost of a GEMM event: all but where it ran and what was counted."""
    return (
        event.role,
        event.M,
        event.N,
        event.K,
        event.count,
        event.lhs,
        event.rhs,
        event.accumulator_bits,
        event.outer_bits,
        event.term_additions,
        event.result_bits,
        event.chunk,
        event.overflow,
        event.conv,
    )


def priced_trace(trace: WorkloadTrace, pricing: Pricing) -> PricedTrace:
    """Price every event of a trace.

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply or hold.
        ValueError: A GEMM with an unknown overflow.
    """
    known = _Known(pricing)
    kinds = tuple(known.kind(event) for event in trace.events)
    priced: list[Cost | GemmCost] = []
    for members in _together(trace.events, kinds, pricing):
        priced += known.group(kinds[members])
    return PricedTrace(
        costs=tuple(_cost(each) for each in priced),
        gemms=tuple(
            (event, each)
            for event, each in zip(trace.events, priced, strict=True)
            if isinstance(event, GemmEvent) and isinstance(each, GemmCost)
        ),
        notes=tuple(known.notes),
    )


def _together(events: Sequence[Event], kinds: Sequence[_Kind], pricing: Pricing) -> Iterable[slice]:
    """The events that run together: each by itself unless the machine works on groups."""
    if pricing.profile.vector.overlaps_array:
        return groups(events, [kind.on_array for kind in kinds])
    return (slice(i, i + 1) for i in range(len(events)))


def event_cost(event: Event, pricing: Pricing) -> Cost:
    """The cost of one event by itself, without static power."""
    return priced_trace(WorkloadTrace([event]), pricing).costs[0]
