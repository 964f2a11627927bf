"""What a trace costs: the total, and the same split by role, by layer and by kind of work.

The sums are made when they are first asked for: a sweep of machines asks for totals alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from hw_models.cost import Cost, Sum
from hw_models.footprint import Footprint
from hw_models.ranges import NOTHING, EnergyRange
from lowbit_sim.trace import ROLES, GemmEvent, Role

if TYPE_CHECKING:
    from hw_models.gemm_cost import GemmCost

Key = TypeVar("Key", bound=str)

#: Role, layer and kind of work of an event, and its cost.
Row = tuple[Role, str, str, Cost]


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """The cost of a trace on a machine.

    Attributes:
        machine: Name of the machine.
        frequency_hz: Its clock.
        rows: The cost of each event, without static power; equal events share one object.
        static: Static energy of a clock cycle.
        gemms: Each GEMM event with its cost, mode and mapping, in the order in which they ran.
        footprint: Bytes that training keeps in memory.
        devices: Machines that share the work of a step by its batch; time, bytes and energy are of one of them.
        area_mm2: Area of the arrays' multiply-accumulate units; None where the profile has no [area].
        notes: Where what ran differs from what the machine does, each once.
    """

    machine: str
    frequency_hz: int
    rows: tuple[Row, ...] = ()
    static: EnergyRange = NOTHING
    gemms: tuple[tuple[GemmEvent, GemmCost], ...] = ()
    footprint: Footprint = Footprint()
    devices: int = 1
    area_mm2: float | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def total(self) -> Cost:
        """Cost of all events on one machine."""
        return self._sums(lambda row: "", ("",))[""]

    @cached_property
    def by_role(self) -> dict[Role, Cost]:
        """Cost of each of `trace.ROLES`, in that order."""
        return self._sums(lambda row: row[0], ROLES)

    @cached_property
    def by_layer(self) -> dict[str, Cost]:
        """Cost of each layer in the order in which it first ran; "" is work of the whole model."""
        return self._sums(lambda row: row[1])

    @cached_property
    def by_kind(self) -> dict[str, Cost]:
        """Cost of "gemm", of each kind of vector work that ran, and of the "all_reduce" between machines."""
        return self._sums(lambda row: row[2])

    def _sums(self, key: Callable[[Row], Key], keys: Iterable[Key] = ()) -> dict[Key, Cost]:
        """The cost for each key: the given keys first, then others as they come."""
        members: dict[Key, dict[int, tuple[Cost, int]]] = {each: {} for each in keys}
        for row in self.rows:
            counts = members.setdefault(key(row), {})
            known = counts.get(id(row[3]))
            counts[id(row[3])] = (row[3], 1 if known is None else known[1] + 1)
        costs: dict[Key, Cost] = {}
        for each, counts in members.items():
            part = Sum()
            for cost, times in counts.values():
                part.add(cost, times)
            costs[each] = part.cost(self.static)
        return costs

    @property
    def cycles(self) -> int:
        """Time in clock cycles."""
        return self.total.cycles

    @property
    def seconds(self) -> float:
        """Time in seconds."""
        return self.cycles / self.frequency_hz

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.total.macs

    @property
    def bytes(self) -> int:
        """Bytes read and written at the memory outside."""
        return self.total.bytes

    @property
    def energy(self) -> dict[str, EnergyRange]:
        """Energy by component."""
        return self.total.energy

    @property
    def energy_pj(self) -> float:
        """Nominal energy in pJ."""
        return self.total.energy_pj

    @property
    def energy_low_pj(self) -> float:
        """Energy in pJ with every figure at the low end of its range."""
        return self.total.energy_low_pj

    @property
    def energy_high_pj(self) -> float:
        """Energy in pJ with every figure at the high end of its range."""
        return self.total.energy_high_pj

    @property
    def edp(self) -> float:
        """Energy-delay product in J s, at the nominal energy."""
        return self.energy_pj * 1e-12 * self.seconds

    @property
    def utilization(self) -> float:
        """Useful share of the arrays' peak over the whole time, 0 to 1."""
        return self.total.utilization

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers, for JSON; without the single GEMMs."""
        return {
            "machine": self.machine,
            "frequency_hz": self.frequency_hz,
            "devices": self.devices,
            "seconds": self.seconds,
            "edp_js": self.edp,
            "area_mm2": self.area_mm2,
            **self.total.to_dict(),
            "by_role": {role: cost.to_dict() for role, cost in self.by_role.items()},
            "by_layer": {layer: cost.to_dict() for layer, cost in self.by_layer.items()},
            "by_kind": {kind: cost.to_dict() for kind, cost in self.by_kind.items()},
            "footprint_bytes": {f.name: getattr(self.footprint, f.name) for f in fields(self.footprint)},
            "notes": list(self.notes),
        }
