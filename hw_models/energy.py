"""Energy of operations by width, and of an event by component.

    multiply(b) = multiply_pj (b / multiply_bits)^2        an array multiplier grows with both widths
    add(b)      = add_pj (b / add_bits)                    a ripple of b full adders
    logic scale = (node / node0) (voltage / voltage0)^2    capacitance with the node's length, times V^2

With the figures of Horowitz, "Computing's energy problem", ISSCC 2014 (45 nm: 0.2 pJ for an 8-bit multiply,
0.1 pJ for a 32-bit addition), INT8 with a 32-bit accumulator takes 0.3 pJ and INT4 0.15 pJ: only half,
because the accumulator does not shrink. The logic scale is an assumption of first order. Published tables
differ by 2 to 5 times for the same operation; a profile's sources say by how much.

Not priced: registers inside the array, the network between memories, control, and leakage beyond
`static_power_w`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from hw_models.cycles import ceil_div
from hw_models.memory import Traffic
from hw_models.profile import HardwareProfile
from hw_models.tables import Mode
from lowbit_sim.trace import GemmEvent


@dataclass(frozen=True, kw_only=True)
class EnergySplit:
    """Energy by component, in pJ.

    Attributes:
        multiply_add_pj: Multiplications and accumulator additions of the array.
        sram_pj: On-chip memories, operands' and accumulators'.
        dram_pj: The memory outside.
        vector_pj: Vector work, GEMMs on the vector unit, and random bits.
        static_pj: Static power times time.
    """

    multiply_add_pj: float = 0.0
    sram_pj: float = 0.0
    dram_pj: float = 0.0
    vector_pj: float = 0.0
    static_pj: float = 0.0

    @property
    def total_pj(self) -> float:
        """The sum of the components."""
        return math.fsum(getattr(self, f.name) for f in fields(self))


def multiply_pj(bits: int, *, reference_pj: float, reference_bits: int) -> float:
    """Energy of an integer multiply of two `bits` wide operands, from that at a reference width."""
    return reference_pj * (bits / reference_bits) ** 2


def add_pj(bits: int, *, reference_pj: float, reference_bits: int) -> float:
    """Energy of an integer addition of `bits`, from that at a reference width."""
    return reference_pj * (bits / reference_bits)


def technology_scale(profile: HardwareProfile) -> float:
    """Energy of logic on the machine relative to the node and voltage of its [energy] figures."""
    machine, energy = profile.machine, profile.energy
    return machine.node_nm / energy.node_nm * (machine.voltage_v / energy.voltage_v) ** 2


def mac_pj(profile: HardwareProfile, mode: Mode, accumulator_bits: int) -> float:
    """Energy of one multiply-accumulate on the machine.

    Args:
        profile: The machine.
        mode: The mode that the operands run in; a float mode brings its own figures.
        accumulator_bits: Width of the accumulator.
    """
    if mode.multiply_pj is not None and mode.add_pj is not None:
        return mode.multiply_pj + mode.add_pj
    energy = profile.energy
    product = multiply_pj(
        mode.operand_bits, reference_pj=energy.multiply_pj, reference_bits=energy.multiply_bits
    )
    return technology_scale(profile) * product + accumulate_pj(profile, accumulator_bits)


def accumulate_pj(profile: HardwareProfile, accumulator_bits: int) -> float:
    """Energy of one addition to an integer accumulator on the machine."""
    energy = profile.energy
    added = add_pj(accumulator_bits, reference_pj=energy.add_pj, reference_bits=energy.add_bits)
    return technology_scale(profile) * added


def gemm_arithmetic_pj(event: GemmEvent, profile: HardwareProfile, mode: Mode) -> float:
    """Energy of a GEMM's multiplications and accumulator additions.

    An addition for each product at `accumulator_bits`; with chunks also one for each chunk at `outer_bits`.
    """
    inner = event.macs * mac_pj(profile, mode, event.accumulator_bits)
    if not event.chunk and event.outer_bits == event.accumulator_bits:
        return inner
    chunks = ceil_div(event.K, event.chunk or max(event.K, 1))
    return inner + event.count * event.M * event.N * chunks * accumulate_pj(profile, event.outer_bits)


def vector_pj(profile: HardwareProfile, *, elements: int, random_bits: int) -> float:
    """Energy of vector work on a number of elements, and of the random bits it draws."""
    energy = profile.energy
    work = elements * energy.vector_element_pj + random_bits * energy.random_bit_pj
    return technology_scale(profile) * work


def sram_pj(profile: HardwareProfile, traffic: Traffic) -> float:
    """Energy of the traffic at both on-chip memories."""
    sram, accumulator = profile.memory.sram, profile.memory.accumulator
    return math.fsum(
        (
            traffic.sram_read_bits * sram.read_pj_per_bit,
            traffic.sram_write_bits * sram.write_pj_per_bit,
            traffic.accumulator_read_bits * accumulator.read_pj_per_bit,
            traffic.accumulator_write_bits * accumulator.write_pj_per_bit,
        )
    )


def dram_pj(profile: HardwareProfile, traffic: Traffic) -> float:
    """Energy of the traffic at the memory outside."""
    dram = profile.memory.dram
    read_pj = 8 * traffic.dram_read_bytes * dram.read_pj_per_bit
    write_pj = 8 * traffic.dram_write_bytes * dram.write_pj_per_bit
    return read_pj + write_pj


def static_pj(profile: HardwareProfile, cycles: int) -> float:
    """Static power over a number of cycles."""
    return profile.energy.static_power_w * 1e12 * cycles / profile.clock.frequency_hz
