"""Energies as ranges: published figures of one operation differ by 2 to 5 times, so every energy has three values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hw_models.schema.base import Figure


@dataclass(frozen=True, slots=True)
class EnergyRange:
    """An energy in pJ: lowest, nominal and highest.

    Sums add end to end: the low end is that of a machine of which every figure is at its low end.

    Raises:
        ValueError: Not 0 <= low <= nominal <= high.
    """

    low_pj: float
    nominal_pj: float
    high_pj: float

    def __post_init__(self) -> None:
        if not 0 <= self.low_pj <= self.nominal_pj <= self.high_pj:
            raise ValueError(
                f"an energy has 0 <= low <= nominal <= high, got {self.low_pj}, {self.nominal_pj}, {self.high_pj} pJ"
            )

    def __add__(self, other: EnergyRange) -> EnergyRange:
        return EnergyRange(
            self.low_pj + other.low_pj, self.nominal_pj + other.nominal_pj, self.high_pj + other.high_pj
        )

    def scaled(self, factor: float) -> EnergyRange:
        """The energy of `factor` such operations."""
        return EnergyRange(factor * self.low_pj, factor * self.nominal_pj, factor * self.high_pj)

    def to_dict(self) -> dict[str, float]:
        """The three values by name, for JSON."""
        return {"low_pj": self.low_pj, "nominal_pj": self.nominal_pj, "high_pj": self.high_pj}


NOTHING = EnergyRange(0.0, 0.0, 0.0)


def of_figure(figure: Figure) -> EnergyRange:
    """A figure of a profile that counts pJ."""
    return EnergyRange(figure.low, figure.nominal, figure.high)


def exactly(pj: float) -> EnergyRange:
    """An energy of which one value is given."""
    return EnergyRange(pj, pj, pj)


def total_range(energies: Iterable[EnergyRange]) -> EnergyRange:
    """The sum, rounded once."""
    parts = list(energies)
    return EnergyRange(
        math.fsum(e.low_pj for e in parts),
        math.fsum(e.nominal_pj for e in parts),
        math.fsum(e.high_pj for e in parts),
    )
