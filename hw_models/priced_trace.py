"""The cost of each event of a trace by itself; events that differ only in where they ran share one cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from hw_models.cost import Cost
from hw_models.gemm_cost import GemmCost, priced_gemm
from hw_models.notes import gemm_notes, vector_notes
from hw_models.operands import gemm_modes
from hw_models.overlap import Priced
from hw_models.pricing import Pricing
from hw_models.vector_cost import vector_cost
from lowbit_sim.trace import Event, GemmEvent, VectorEvent, WorkloadTrace


@dataclass(frozen=True, kw_only=True)
class PricedTrace:
    """The events of a trace with their costs, without static power and as if none overlapped.

    Attributes:
        events: Each event with its cost, and whether it is a GEMM on the array.
        gemms: Each GEMM event with its cost, mode and mapping.
        notes: What there is to say about them, each once.
    """

    events: tuple[Priced, ...]
    gemms: tuple[tuple[GemmEvent, GemmCost], ...]
    notes: tuple[str, ...]

    @property
    def costs(self) -> list[Cost]:
        """The costs alone."""
        return [cost for _, cost, _ in self.events]


@dataclass(frozen=True)
class _Known:
    """Costs so far, by what decides them."""

    pricing: Pricing
    gemms: dict[tuple[object, ...], GemmCost] = field(default_factory=dict)
    vectors: dict[tuple[object, ...], Cost] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    noted: set[tuple[object, ...]] = field(default_factory=set)

    def gemm(self, event: GemmEvent) -> GemmCost:
        key = gemm_signature(event)
        found = self.gemms.get(key)
        if found is None:
            self._note(event)
            found = self.gemms[key] = priced_gemm(event, self.pricing)
        return found

    def _note(self, event: GemmEvent) -> None:
        """Notes do not depend on sizes."""
        stride = event.conv and event.conv.stride
        numerics = (event.accumulator_bits, event.outer_bits, event.chunk, event.overflow)
        key = (event.role, event.lhs, event.rhs, *numerics, stride)
        if key not in self.noted:
            profile = self.pricing.profile
            self.notes.update(dict.fromkeys(gemm_notes(event, profile, gemm_modes(event, profile))))
            self.noted.add(key)

    def vector(self, event: VectorEvent) -> Cost:
        key = (event.kind, event.elements, event.read_bytes, event.write_bytes, event.random_bits)
        found = self.vectors.get(key)
        if found is None:
            self.notes.update(dict.fromkeys(vector_notes(event, self.pricing.profile)))
            found = self.vectors[key] = vector_cost(event, self.pricing)
        return found


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
        event.chunk,
        event.overflow,
        event.conv,
    )


def priced_trace(trace: WorkloadTrace, pricing: Pricing) -> PricedTrace:
    """Price every event of a trace by itself.

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply or hold.
        ValueError: A GEMM with an unknown overflow.
    """
    known = _Known(pricing)
    events: list[Priced] = []
    gemms: list[tuple[GemmEvent, GemmCost]] = []
    for event in trace.events:
        if isinstance(event, GemmEvent):
            found = known.gemm(event)
            gemms.append((event, found))
            events.append((event, found.cost, found.mapping is not None))
        else:
            events.append((event, known.vector(event), False))
    return PricedTrace(events=tuple(events), gemms=tuple(gemms), notes=tuple(known.notes))


def event_cost(event: Event, pricing: Pricing) -> Cost:
    """The cost of one event by itself, without static power."""
    return priced_trace(WorkloadTrace([event]), pricing).events[0][1]
