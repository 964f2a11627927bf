"""Energy of single actions on a machine, by width.

    multiply(b)  given widths: the figure;  between two: a straight line in log(energy) over log(width);
                 beyond the ends: times (b / nearest width)^2     an array multiplier grows with both widths
    add(b)       the same, beyond the ends times b / nearest width   a ripple of b full adders
    logic scale  (node / node0) (voltage / voltage0)^2            capacitance with the node's length, times V^2

With Horowitz, "Computing's energy problem", ISSCC 2014 (45 nm: 0.2 pJ for an 8-bit multiply, 0.1 pJ for a 32-bit
addition), INT8 with a 32-bit accumulator takes 0.3 pJ and INT4 0.15 pJ: only half, because the accumulator does not
shrink. The logic scale is an assumption of first order. A float or log mode brings its own figures, on the machine.

Registers: a processing element takes over, for each multiply-accumulate, the operands that move through it and,
for each sum of the p products that it adds up at once, the partial sum:

| dataflow | bits of registers for each multiply-accumulate                                    |
|----------|-----------------------------------------------------------------------------------|
| ws, is   | one operand + accumulator / p             (the other operand stays)               |
| os       | both operands + accumulator / p           (the sum is rewritten in its place)     |
| rs       | both operands + accumulator / p           (Eyeriss: filter, row and sum per MAC)  |
| spatial  | one operand + accumulator / (p x rows)    (one sum for a whole adder tree)        |

Loads of the operand that stays are not counted: one for each T multiply-accumulates.

Not priced: the network between memories, control, clock distribution, and leakage beyond `static_power_w`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from hw_models.mapping.access_energy import access_pj_per_bit
from hw_models.profile import HardwareProfile
from hw_models.ranges import EnergyRange, exactly, of_figure
from hw_models.schema.array import Array, Mode
from hw_models.schema.energy import ByWidth

#: Operands that move through a processing element for each multiply-accumulate.
_MOVING = {"ws": 1, "is": 1, "os": 2, "rs": 2, "spatial": 1}


@dataclass(frozen=True, kw_only=True)
class UnitEnergies:
    """Energies of one action each, on the machine.

    Attributes:
        read, write: A bit at each on-chip memory.
        dram_read, dram_write: A bit at the memory outside.
        register: A bit that a register takes over.
        vector_operation: An operation of the vector unit.
        random_bit: A random bit.
        link_bit: A bit sent to another machine; None without links.
        static: Static power in a clock cycle.
    """

    read: dict[str, EnergyRange]
    write: dict[str, EnergyRange]
    dram_read: EnergyRange
    dram_write: EnergyRange
    register: EnergyRange
    vector_operation: EnergyRange
    random_bit: EnergyRange
    link_bit: EnergyRange | None
    static: EnergyRange


def unit_energies(profile: HardwareProfile) -> UnitEnergies:
    """The energies of a machine's actions but those of its multipliers and adders, which depend on the widths."""
    scale, energy, dram = technology_scale(profile), profile.energy, profile.memory.dram
    levels = profile.memory.levels
    links = profile.interconnect
    return UnitEnergies(
        read={name: EnergyRange(*access_pj_per_bit(level, write=False)) for name, level in levels.items()},
        write={name: EnergyRange(*access_pj_per_bit(level, write=True)) for name, level in levels.items()},
        dram_read=of_figure(dram.read_pj_per_bit),
        dram_write=of_figure(dram.write_pj_per_bit),
        register=of_figure(energy.register_pj_per_bit).scaled(scale),
        vector_operation=of_figure(energy.vector_operation_pj).scaled(scale),
        random_bit=of_figure(energy.random_bit_pj).scaled(scale),
        link_bit=None if links is None else of_figure(links.pj_per_bit),
        static=exactly(1e12 * energy.static_power_w / profile.clock.frequency_hz),
    )


def technology_scale(profile: HardwareProfile) -> float:
    """Energy of logic on the machine relative to the node and voltage of its [energy] figures."""
    machine, energy = profile.machine, profile.energy
    return machine.node_nm / energy.node_nm * (machine.voltage_v / energy.voltage_v) ** 2


def multiply_energy(profile: HardwareProfile, mode: Mode) -> EnergyRange:
    """A multiply in a mode, of operands as wide as the mode: narrower ones toggle the same multiplier."""
    if mode.multiply_pj is not None:
        return of_figure(mode.multiply_pj)
    return by_width(profile.energy.multiply, mode.operand_bits, power=2).scaled(technology_scale(profile))


def add_energy(profile: HardwareProfile, mode: Mode, bits: int) -> EnergyRange:
    """An addition to an accumulator: of `bits` after integer products, a float or log mode's own otherwise."""
    return integer_add_energy(profile, bits) if mode.add_pj is None else of_figure(mode.add_pj)


def integer_add_energy(profile: HardwareProfile, bits: int) -> EnergyRange:
    """An integer addition of `bits` on the machine."""
    return by_width(profile.energy.add, bits, power=1).scaled(technology_scale(profile))


def by_width(entries: Sequence[ByWidth], bits: int, *, power: Literal[1, 2]) -> EnergyRange:
    """The energy of an operation of a width, from those at the given widths.

    Args:
        entries: Widths, ascending, with their energies.
        bits: The width.
        power: Growth beyond the ends: 1 for adders, 2 for multipliers.
    """
    ends: tuple[Literal["low", "nominal", "high"], ...] = ("low", "nominal", "high")
    low, nominal, high = (
        _at_width([(e.bits, float(getattr(e.pj, end))) for e in entries], bits, power) for end in ends
    )
    # Each of the three lies on a curve of its own; rounding must not swap two that nearly meet.
    return EnergyRange(min(low, nominal), nominal, max(nominal, high))


def _at_width(points: Sequence[tuple[int, float]], bits: int, power: int) -> float:
    first, last = points[0], points[-1]
    if bits <= first[0]:
        return first[1] * (bits / first[0]) ** power
    for (b0, e0), (b1, e1) in pairwise(points):
        if bits == b1:
            return e1
        if bits < b1:
            share = math.log(bits / b0) / math.log(b1 / b0)
            return e0 ** (1 - share) * e1**share if e0 and e1 else 0.0
    return last[1] * (bits / last[0]) ** power


def register_bits(array: Array, mode: Mode, accumulator_bits: int) -> float:
    """Bits that registers take over for one multiply-accumulate; see the module.

    Args:
        array: The array.
        mode: The mode that the multiply-accumulate runs in.
        accumulator_bits: Width of the partial sum.
    """
    summed_at_once = mode.macs_per_pe_per_cycle * (array.rows if array.dataflow == "spatial" else 1)
    return _MOVING[array.dataflow] * mode.operand_bits + accumulator_bits / summed_at_once
