"""A training step's cost as a record holds it: the figures of a `CostReport` without the events behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lowbit_sim.trace import Role


@dataclass(frozen=True, kw_only=True)
class RecordedCost:
    """A cost, or a part of one.

    Attributes:
        values: What `CostReport.to_dict` gave.
    """

    values: Mapping[str, Any]

    @property
    def cycles(self) -> int:
        """Time in clock cycles."""
        return self.values["cycles"]

    @property
    def seconds(self) -> float:
        """Time in seconds at the machine's clock."""
        return self.values["seconds"]

    @property
    def energy_pj(self) -> float:
        """Nominal energy in pJ."""
        return self.values["energy_pj"]

    @property
    def energy_low_pj(self) -> float:
        """Energy at the low end of its range; the nominal one in a record of a time before there was a range."""
        return self.values.get("energy_low_pj", self.energy_pj)

    @property
    def energy_high_pj(self) -> float:
        """Energy at the high end of its range; the nominal one in a record of a time before there was a range."""
        return self.values.get("energy_high_pj", self.energy_pj)

    @property
    def by_role(self) -> dict[Role, RecordedCost]:
        """The parts of the step."""
        return {role: RecordedCost(values=part) for role, part in self.values["by_role"].items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Where what ran differs from what the machine does."""
        return tuple(self.values["notes"])

    def to_dict(self) -> dict[str, Any]:
        """As `CostReport.to_dict`."""
        return dict(self.values)
