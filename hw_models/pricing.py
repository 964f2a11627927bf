"""What pricing an event needs of a machine: worked out once for a whole trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hw_models.compute.work import ceil_div
from hw_models.energy import UnitEnergies, add_energy, multiply_energy, register_bits, unit_energies
from hw_models.mapping.search import OBJECTIVES, Objective
from hw_models.mapping.traffic import DRAM
from hw_models.profile import HardwareProfile
from hw_models.ranges import EnergyRange
from hw_models.schema.array import Mode
from lowbit_sim.numerics.suggest import unknown


@dataclass(frozen=True, kw_only=True)
class MacEnergy:
    """Energies of a multiply-accumulate: multiply, addition, registers, and an addition to the outer accumulator."""

    multiply: EnergyRange
    add: EnergyRange
    outer_add: EnergyRange
    registers: EnergyRange


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """A machine and how its GEMMs are mapped.

    Attributes:
        profile: The machine.
        objective: What mappings are chosen for: "cycles", "energy" or "edp".

    Raises:
        ValueError: An unknown objective.
    """

    profile: HardwareProfile
    objective: Objective = "cycles"

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(unknown("objective", self.objective, OBJECTIVES))

    @cached_property
    def energies(self) -> UnitEnergies:
        """Energies of single actions."""
        return unit_energies(self.profile)

    def mac_energy(self, mode: Mode, accumulator_bits: int, outer_bits: int) -> MacEnergy:
        """The parts of a multiply-accumulate in a mode of the array, by the widths of its accumulators."""
        key = (mode.kind, mode.operand_bits, accumulator_bits, outer_bits)
        found = self._mac_energies.get(key)
        if found is None:
            moved = register_bits(self.profile.array, mode, accumulator_bits)
            found = self._mac_energies[key] = MacEnergy(
                multiply=multiply_energy(self.profile, mode),
                add=add_energy(self.profile, mode, accumulator_bits),
                outer_add=add_energy(self.profile, mode, outer_bits),
                registers=self.energies.register.scaled(moved),
            )
        return found

    @cached_property
    def _mac_energies(self) -> dict[tuple[str, int, int, int], MacEnergy]:
        return {}

    @cached_property
    def _bits_per_cycle(self) -> dict[str, int]:
        return {name: 8 * lv.bandwidth_bytes_per_cycle for name, lv in self.profile.memory.levels.items()}

    def memory_cycles(self, bits: Mapping[tuple[str, str], int]) -> dict[str, int]:
        """Cycles that each memory needs for the bits that cross there, by (memory, operand)."""
        at: dict[str, int] = {}
        for (level, _), crossed in bits.items():
            at[level] = at.get(level, 0) + crossed
        return {level: self._cycles(level, crossed) for level, crossed in at.items()}

    def _cycles(self, level: str, bits: int) -> int:
        if level != DRAM:
            return ceil_div(bits, self._bits_per_cycle[level])
        bandwidth = self.profile.memory.dram.bandwidth_bytes_per_second
        return ceil_div(bits * self.profile.clock.frequency_hz, 8 * bandwidth)
