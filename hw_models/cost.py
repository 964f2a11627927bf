"""The cost of events, and sums of costs.

Every event is one `Cost`, and a part's cost and the total are sums of the same events' costs, so integers of the
parts add up exactly and floats to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hw_models.ranges import NOTHING, EnergyRange, total_range


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of some events.

    Attributes:
        cycles: Time in clock cycles, waiting included.
        compute_cycles: Cycles in which the arrays or the vector unit work. Where these work side by side, both
            count, so that this may exceed `cycles`.
        macs: Multiply-accumulates, on the arrays and on the vector unit.
        ideal_cycles: Cycles that those on the arrays would take at the peak rate of their modes; those on the
            vector unit count none.
        dram_bytes: Bytes read and written at the memory outside.
        traffic: Bits read and written by (memory, operand); "dram" is the memory outside, "vector" the data of
            vector work.
        energy: Energy by component: "multiply", "add", "registers", each on-chip memory's name, "dram", "vector",
            "random_bits", "interconnect", "static". What takes none may be left out.
        cycles_by_bound: The cycles by what they were spent on or waited for: "compute", "vector", a memory's name,
            "links". They sum to `cycles`.

    Raises:
        ValueError: A negative count or time, or less time than it ideally takes; a model that says so is wrong.
    """

    cycles: int = 0
    compute_cycles: int = 0
    macs: int = 0
    ideal_cycles: float = 0.0
    dram_bytes: int = 0
    traffic: dict[tuple[str, str], int] = field(default_factory=dict)
    energy: dict[str, EnergyRange] = field(default_factory=dict)
    cycles_by_bound: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("compute_cycles", "macs", "ideal_cycles", "dram_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"a cost is never negative, got {name}={getattr(self, name)}")
        if self.traffic and min(self.traffic.values()) < 0:
            raise ValueError(f"a cost is never negative, got traffic={self.traffic}")
        if self.cycles < self.ideal_cycles * (1 - 1e-12):
            raise ValueError(f"cycles={self.cycles} is less than ideal_cycles={self.ideal_cycles}")

    @property
    def bytes(self) -> int:
        """Bytes at the memory outside, the traffic that bounds a machine from below."""
        return self.dram_bytes

    @property
    def energy_range(self) -> EnergyRange:
        """Energy of all components."""
        return total_range(self.energy.values())

    @property
    def energy_pj(self) -> float:
        """Nominal energy in pJ, all components."""
        return self.energy_range.nominal_pj

    @property
    def energy_low_pj(self) -> float:
        """Energy in pJ with every figure at the low end of its range."""
        return self.energy_range.low_pj

    @property
    def energy_high_pj(self) -> float:
        """Energy in pJ with every figure at the high end of its range."""
        return self.energy_range.high_pj

    @property
    def utilization(self) -> float:
        """Useful share of the arrays' peak over the whole time, 0 to 1."""
        return self.ideal_cycles / self.cycles if self.cycles else 0.0

    @property
    def bound_by(self) -> str:
        """What most of the cycles were spent on or waited for; "" for no time."""
        return max(self.cycles_by_bound, key=lambda name: self.cycles_by_bound[name], default="")

    def level_bits(self, level: str) -> int:
        """Bits read and written at a memory, all operands."""
        return sum(bits for (name, _), bits in self.traffic.items() if name == level)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers by name, for JSON; traffic in bits by memory and operand."""
        traffic: dict[str, dict[str, int]] = {}
        for (level, operand), bits in self.traffic.items():
            traffic.setdefault(level, {})[operand] = bits
        total = self.energy_range
        return {
            "cycles": self.cycles,
            "compute_cycles": self.compute_cycles,
            "macs": self.macs,
            "utilization": self.utilization,
            "bytes": self.bytes,
            "energy_pj": total.nominal_pj,
            "energy_low_pj": total.low_pj,
            "energy_high_pj": total.high_pj,
            "energy_by_component": {name: e.to_dict() for name, e in self.energy.items()},
            "bound_by": self.bound_by,
            "cycles_by_bound": dict(self.cycles_by_bound),
            "traffic_bits": traffic,
        }


class Sum:
    """The cost of events one after the other, added up as they come."""

    def __init__(self) -> None:
        self.cycles = self.compute_cycles = self.macs = self.dram_bytes = 0
        self.ideal_cycles = 0.0
        self.traffic: dict[tuple[str, str], int] = {}
        self.energy: dict[str, tuple[float, float, float]] = {}
        self.bounds: dict[str, int] = {}

    def add(self, cost: Cost, times: int = 1) -> Sum:
        """Add the cost of `times` equal events."""
        self.cycles += times * cost.cycles
        self.compute_cycles += times * cost.compute_cycles
        self.macs += times * cost.macs
        self.dram_bytes += times * cost.dram_bytes
        self.ideal_cycles += times * cost.ideal_cycles
        for key, bits in cost.traffic.items():
            self.traffic[key] = self.traffic.get(key, 0) + times * bits
        for bound, cycles in cost.cycles_by_bound.items():
            self.bounds[bound] = self.bounds.get(bound, 0) + times * cycles
        energy = self.energy
        for name, e in cost.energy.items():
            low, nominal, high = energy.get(name, (0.0, 0.0, 0.0))
            energy[name] = (
                low + times * e.low_pj,
                nominal + times * e.nominal_pj,
                high + times * e.high_pj,
            )
        return self

    def cost(self, static: EnergyRange = NOTHING) -> Cost:
        """The sum, with static power (the energy of a cycle) over its time."""
        energy = {name: EnergyRange(*values) for name, values in self.energy.items()}
        if static.high_pj:
            energy["static"] = static.scaled(self.cycles)
        return Cost(
            cycles=self.cycles,
            compute_cycles=self.compute_cycles,
            macs=self.macs,
            ideal_cycles=self.ideal_cycles,
            dram_bytes=self.dram_bytes,
            traffic=self.traffic,
            energy=energy,
            cycles_by_bound=self.bounds,
        )


def total(costs: Iterable[Cost]) -> Cost:
    """The cost of running one after the other."""
    whole = Sum()
    for cost in costs:
        whole.add(cost)
    return whole.cost()
