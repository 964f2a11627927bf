"""What a trace costs: the total, and the same split by role and by layer.

Every event is one `Cost`; a part's cost and the total are sums of the same events' costs, so integers of the
parts add up exactly and floats to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from hw_models.energy import EnergySplit
from lowbit_sim.trace import Role


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of some events that run one after the other.

    Attributes:
        cycles: Time in clock cycles: of each event the largest of compute, DRAM and on-chip time.
        compute_cycles: Cycles of the arrays or the vector unit alone; `cycles` less this is waiting.
        macs: Multiply-accumulates, on the arrays and on the vector unit.
        ideal_cycles: Cycles that those on the arrays would take at the peak rate of their modes; those on the
            vector unit count none.
        dram_bytes: Bytes read and written at the memory outside.
        sram_bytes: Bytes read and written at the on-chip memories, operands' and accumulators'.
        energy: Energy by component.

    Raises:
        ValueError: A negative count or time, or less time than its parts; a model that says so is wrong.
    """

    cycles: int = 0
    compute_cycles: int = 0
    macs: int = 0
    ideal_cycles: float = 0.0
    dram_bytes: int = 0
    sram_bytes: int = 0
    energy: EnergySplit = EnergySplit()

    def __post_init__(self) -> None:
        for name in ("compute_cycles", "macs", "ideal_cycles", "dram_bytes", "sram_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"a cost is never negative, got {name}={getattr(self, name)}")
        if self.cycles < max(self.compute_cycles, self.ideal_cycles):
            raise ValueError(
                f"cycles={self.cycles} is less than compute_cycles={self.compute_cycles} or "
                f"ideal_cycles={self.ideal_cycles}"
            )

    @property
    def bytes(self) -> int:
        """Bytes at the memory outside, the traffic that bounds a machine from below."""
        return self.dram_bytes

    @property
    def energy_pj(self) -> float:
        """Energy in pJ, all components."""
        return self.energy.total_pj

    @property
    def utilization(self) -> float:
        """Useful share of the arrays' peak over the whole time, 0 to 1."""
        return self.ideal_cycles / self.cycles if self.cycles else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers by name, for JSON."""
        return {
            "cycles": self.cycles,
            "compute_cycles": self.compute_cycles,
            "macs": self.macs,
            "utilization": self.utilization,
            "bytes": self.bytes,
            "sram_bytes": self.sram_bytes,
            "energy_pj": self.energy_pj,
            "energy_by_component": {f.name: getattr(self.energy, f.name) for f in fields(EnergySplit)},
        }


def total(costs: Iterable[Cost]) -> Cost:
    """The cost of running one after the other."""
    parts = list(costs)
    return Cost(
        cycles=sum(c.cycles for c in parts),
        compute_cycles=sum(c.compute_cycles for c in parts),
        macs=sum(c.macs for c in parts),
        ideal_cycles=math.fsum(c.ideal_cycles for c in parts),
        dram_bytes=sum(c.dram_bytes for c in parts),
        sram_bytes=sum(c.sram_bytes for c in parts),
        energy=EnergySplit(
            **{f.name: math.fsum(getattr(c.energy, f.name) for c in parts) for f in fields(EnergySplit)}
        ),
    )


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """The cost of a trace on a machine.

    Attributes:
        machine: Name of the machine.
        frequency_hz: Its clock.
        total: Cost of all events.
        by_role: Cost of each of `trace.ROLES`, in that order.
        by_layer: Cost of each layer in the order in which it first ran; "" is work of the whole model.
        notes: Where what ran differs from what the machine does, each once.
    """

    machine: str
    frequency_hz: int
    total: Cost
    by_role: dict[Role, Cost]
    by_layer: dict[str, Cost]
    notes: tuple[str, ...] = ()

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
    def energy(self) -> EnergySplit:
        """Energy by component."""
        return self.total.energy

    @property
    def energy_pj(self) -> float:
        """Energy in pJ."""
        return self.total.energy_pj

    @property
    def utilization(self) -> float:
        """Useful share of the arrays' peak over the whole time, 0 to 1."""
        return self.total.utilization

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers, for JSON."""
        return {
            "machine": self.machine,
            "frequency_hz": self.frequency_hz,
            "seconds": self.seconds,
            **self.total.to_dict(),
            "by_role": {role: cost.to_dict() for role, cost in self.by_role.items()},
            "by_layer": {layer: cost.to_dict() for layer, cost in self.by_layer.items()},
            "notes": list(self.notes),
        }
