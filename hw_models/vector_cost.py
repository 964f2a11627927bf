"""The cost of work on the vector unit: its operations, its random bits, and its way to the memories.

    operations = elements x operations of an element of that kind
    cycles     = the longest of operations / rate of the lanes, random bits / rate of their unit, and the bytes at
                 each memory on the way over its bandwidth

A machine without a unit for random bits computes them by operations, a number of these for each 32 bits.

Data come from the memory outside and go back there, through one on-chip memory: the innermost one that holds the
left operand, or the first where none does. Each byte read is a read outside, a write and a read there; each byte
written the same the other way round. What one event writes and the next one reads crosses twice, even if it would
have fitted on the chip; a machine that fuses such work has other events (`fusion`).

A GEMM on the vector unit takes one operation's time for each multiply-accumulate (a fused one), and the energy of
two; where sums are compensated, each takes three additions more. Its lanes lie over N: the sums of as many results
stay in registers while the reduction runs, and each step reads one row's element of the left operand and a vector of
the right one from the on-chip memory,

    reads = M K N + M K ceil(N / lanes)       elements of 32 bits

Between there and the memory outside operands and result cross once each, a convolution's operand as the tensor that
it is unfolded from: a lower bound, as operands that do not fit the on-chip memory would cross again.
"""

from __future__ import annotations

from hw_models.compute.work import ceil_div
from hw_models.cost import Cost
from hw_models.energy import UnitEnergies
from hw_models.mapping.traffic import DRAM, Crossing, Traffic
from hw_models.operands import VECTOR_ELEMENT_BITS
from hw_models.pricing import Pricing
from hw_models.ranges import EnergyRange
from lowbit_sim.trace import ConvGeometry, GemmEvent, VectorEvent

#: The operand that vector work is billed under in traffic.
VECTOR = "vector"

#: Operations of a multiply-accumulate on the vector unit beside its additions.
_MULTIPLIES = 1


def vector_cost(event: VectorEvent, pricing: Pricing) -> Cost:
    """The cost of an event of vector work, without static power."""
    unit, energies = pricing.profile.vector, pricing.energies
    drawn = event.random_bits if unit.random_bits_per_cycle else 0
    computed = ceil_div(event.random_bits - drawn, 32) * unit.operations_per_random_word
    # The number of operations is exact: a float's value is a ratio of two integers.
    each = unit.operations_per_element(event.kind, pricing.profile.arithmetic.requantizer)
    share, parts = each.as_integer_ratio()
    operations = event.elements * share + computed * parts
    working = max(
        ceil_div(operations, parts * unit.operations_per_cycle),
        ceil_div(drawn, unit.random_bits_per_cycle or 1),
    )
    traffic = vector_traffic(event.read_bytes, event.write_bytes, vector_level(pricing))
    return memory_bound_cost(
        pricing,
        traffic,
        compute_cycles=working,
        bound="vector",
        energy={
            "vector": energies.vector_operation.scaled(operations / parts),
            "random_bits": energies.random_bit.scaled(drawn),
        },
    )


def vector_gemm_cost(event: GemmEvent, pricing: Pricing) -> Cost:
    """The cost of a GEMM event on the vector unit, without static power; nothing for a GEMM of size zero."""
    additions, _ = event.term_additions
    working = ceil_div(additions * event.macs, pricing.profile.vector.operations_per_cycle)
    return memory_bound_cost(
        pricing,
        vector_gemm_traffic(event, pricing),
        compute_cycles=working,
        bound="compute",
        energy={"vector": pricing.energies.vector_operation.scaled((_MULTIPLIES + additions) * event.macs)},
        macs=event.macs,
    )


def vector_gemm_traffic(event: GemmEvent, pricing: Pricing) -> Traffic:
    """What a GEMM event on the vector unit moves; nothing for a GEMM of size zero."""
    bits = event.count * VECTOR_ELEMENT_BITS if event.macs else 0
    vectors = ceil_div(event.N, pricing.profile.vector.lanes)
    fetched, results = sum(stored_elements(event)) * bits, event.M * event.N * bits
    used = event.M * event.K * (event.N + vectors) * bits
    level = vector_level(pricing)
    return Traffic(
        crossings=(
            Crossing(level=level, operand=VECTOR, read_bits=used + results, write_bits=fetched + results),
            Crossing(level=DRAM, operand=VECTOR, read_bits=fetched, write_bits=results),
        )
    )


def vector_level(pricing: Pricing) -> str:
    """The on-chip memory between the vector unit and the memory outside."""
    levels = pricing.profile.memory.levels
    return next((name for name, level in levels.items() if "lhs" in level.holds), next(iter(levels)))


def vector_traffic(read_bytes: int, write_bytes: int, level: str) -> Traffic:
    """What crosses on the way between the vector unit and the memory outside."""
    moved = 8 * (read_bytes + write_bytes)
    return Traffic(
        crossings=(
            Crossing(level=level, operand=VECTOR, read_bits=moved, write_bits=moved),
            Crossing(level=DRAM, operand=VECTOR, read_bits=8 * read_bytes, write_bits=8 * write_bytes),
        )
    )


def memory_bound_cost(
    pricing: Pricing,
    traffic: Traffic,
    *,
    compute_cycles: int,
    bound: str,
    energy: dict[str, EnergyRange],
    macs: int = 0,
) -> Cost:
    """The cost of work that takes the longest of a unit's cycles and those of each memory.

    Args:
        pricing: The machine.
        traffic: What crosses.
        compute_cycles: Cycles of the unit.
        bound: What those are called.
        energy: Energy beside the memories'.
        macs: Multiply-accumulates.
    """
    bits = bits_by_operand(traffic)
    times = {bound: compute_cycles, **pricing.memory_cycles(bits)}
    slowest = max(times, key=lambda name: times[name])
    return Cost(
        cycles=times[slowest],
        compute_cycles=compute_cycles,
        macs=macs,
        dram_bytes=traffic.dram_bytes,
        traffic=bits,
        energy={**energy, **memory_energy(traffic, pricing.energies)},
        cycles_by_bound={slowest: times[slowest]} if times[slowest] else {},
    )


def bits_by_operand(traffic: Traffic) -> dict[tuple[str, str], int]:
    """Bits read and written, by memory and operand."""
    bits: dict[tuple[str, str], int] = {}
    for c in traffic.crossings:
        bits[c.level, c.operand] = bits.get((c.level, c.operand), 0) + c.read_bits + c.write_bits
    return bits


def memory_energy(traffic: Traffic, energies: UnitEnergies) -> dict[str, EnergyRange]:
    """Energy of what crosses, by memory."""
    bits: dict[str, tuple[int, int]] = {}
    for c in traffic.crossings:
        read, written = bits.get(c.level, (0, 0))
        bits[c.level] = (read + c.read_bits, written + c.write_bits)
    return {level: _access(energies, level, read, written) for level, (read, written) in bits.items()}


def _access(energies: UnitEnergies, level: str, read_bits: int, write_bits: int) -> EnergyRange:
    read = energies.dram_read if level == DRAM else energies.read[level]
    write = energies.dram_write if level == DRAM else energies.write[level]
    return EnergyRange(
        read_bits * read.low_pj + write_bits * write.low_pj,
        read_bits * read.nominal_pj + write_bits * write.nominal_pj,
        read_bits * read.high_pj + write_bits * write.high_pj,
    )


def stored_elements(event: GemmEvent) -> tuple[int, int]:
    """Elements of the operands in memory: a convolution's unfolded operand is smaller than its matrix."""
    lhs, rhs = event.M * event.K, event.K * event.N
    conv = event.conv
    if conv is None:
        return lhs, rhs
    # A kernel smaller than its stride reads less than the tensor, hence the minimum.
    match event.role:
        case "output":
            return min(lhs, _input_elements(conv)), rhs
        case "grad_input":
            return min(lhs, _output_elements(conv)), rhs
        case "grad_weight":
            return lhs, min(rhs, _input_elements(conv))
        case _:
            return lhs, rhs


def _input_elements(conv: ConvGeometry) -> int:
    """Elements of the input that one group reads."""
    return conv.batch * (conv.in_channels // conv.groups) * conv.in_height * conv.in_width


def _output_elements(conv: ConvGeometry) -> int:
    """Elements of the output that one group writes."""
    return conv.batch * (conv.out_channels // conv.groups) * conv.out_height * conv.out_width
