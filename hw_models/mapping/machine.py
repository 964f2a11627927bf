"""The memories of a machine as the search needs them: plain numbers that can be hashed."""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.work import ceil_div
from hw_models.mapping.access_energy import access_pj_per_bit
from hw_models.mapping.problem import DRAM
from hw_models.profile import HardwareProfile
from hw_models.schema.memory import OPERANDS


@dataclass(frozen=True, kw_only=True)
class Level:
    """One memory.

    Attributes:
        name: Its name in the profile.
        stage: Its stage, from 0 at the array.
        holds: The operands that it holds.
        tile_bits: Bits that tiles may take at a time: half of a double-buffered memory.
        bits_per_cycle: Bits read and written in a cycle.
        read_pj_per_bit, write_pj_per_bit: Nominal energy.
        double_buffered: Whether transfers overlap with compute.
    """

    name: str
    stage: int
    holds: tuple[str, ...]
    tile_bits: int
    bits_per_cycle: int
    read_pj_per_bit: float
    write_pj_per_bit: float
    double_buffered: bool


@dataclass(frozen=True, kw_only=True)
class Memories:
    """The memories of a machine.

    Attributes:
        levels: On-chip memories, from the array outwards.
        stages: Stages that they form.
        dram_bits_per_second: Bandwidth of the memory outside.
        frequency_hz: Clock.
        dram_read_pj_per_bit, dram_write_pj_per_bit: Nominal energy of the memory outside.
        arrays: Equal arrays.
        startup_cycles: Cycles before the first fold of an event's GEMMs.
        static_pj_per_cycle: Energy that a cycle takes whatever happens in it.
    """

    levels: tuple[Level, ...]
    stages: int
    dram_bits_per_second: int
    frequency_hz: int
    dram_read_pj_per_bit: float
    dram_write_pj_per_bit: float
    arrays: int
    startup_cycles: int
    static_pj_per_cycle: float = 0.0

    def level_of(self, operand: str, stage: int) -> Level | None:
        """The memory of a stage that holds an operand; None where the operand passes by."""
        return next((lv for lv in self.levels if lv.stage == stage and operand in lv.holds), None)

    def innermost(self, operand: str) -> Level | None:
        """The memory that the array reads an operand from; None for the one outside."""
        return next((lv for lv in self.levels if operand in lv.holds), None)

    def outwards(self, operand: str, stage: int) -> Level | None:
        """The next memory beyond a stage that holds an operand; None for the one outside."""
        return next((lv for lv in self.levels if lv.stage > stage and operand in lv.holds), None)

    def cycles_at(self, name: str, bits: int) -> int:
        """Cycles in which bits cross at a memory; "dram" is the one outside."""
        if name == DRAM:
            return ceil_div(bits * self.frequency_hz, self.dram_bits_per_second)
        return ceil_div(bits, next(lv.bits_per_cycle for lv in self.levels if lv.name == name))


#: The profile that was asked for last, and its memories: a trace asks for the same one for every GEMM.
_latest: tuple[HardwareProfile | None, Memories | None] = (None, None)


def memories_of(profile: HardwareProfile) -> Memories:
    """The memories of a profile."""
    global _latest
    known, memories = _latest
    if memories is None or known is not profile:
        memories = _memories_of(profile)
        _latest = profile, memories
    return memories


def _memories_of(profile: HardwareProfile) -> Memories:
    memory, dram = profile.memory, profile.memory.dram
    stage_of = {name: i for i, stage in enumerate(memory.stages) for name in stage}
    levels = tuple(
        Level(
            name=name,
            stage=stage_of[name],
            holds=tuple(o for o in OPERANDS if o in level.holds),
            tile_bits=8 * level.capacity_bytes // (2 if level.double_buffered else 1),
            bits_per_cycle=8 * level.bandwidth_bytes_per_cycle,
            read_pj_per_bit=access_pj_per_bit(level, write=False)[1],
            write_pj_per_bit=access_pj_per_bit(level, write=True)[1],
            double_buffered=level.double_buffered,
        )
        for name, level in memory.levels.items()
    )
    return Memories(
        levels=levels,
        stages=len(memory.stages),
        dram_bits_per_second=8 * dram.bandwidth_bytes_per_second,
        frequency_hz=profile.clock.frequency_hz,
        dram_read_pj_per_bit=dram.read_pj_per_bit.nominal,
        dram_write_pj_per_bit=dram.write_pj_per_bit.nominal,
        arrays=profile.array.arrays,
        startup_cycles=profile.array.startup_cycles,
        static_pj_per_cycle=1e12 * profile.energy.static_power_w / profile.clock.frequency_hz,
    )
