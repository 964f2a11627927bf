"""The cost of a GEMM event: on the array under its best mapping, or on the vector unit.

    cycles  of the mapping: the longest of compute and of the bits at each memory (`mapping.traffic`)
    energy  macs x (multiply in the mode + an addition at the inner accumulator's width + registers)
            + an addition at the outer accumulator's width for each chunk
            + what applies the scales of blocks (`block_scales`)
            + the bits at each memory

Compensated summation takes four additions in place of one; their time is taken to be hidden in the array.

The multiply-accumulates are those that the array does: without inserted zeros where it skips them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.block_scales import scaling_energy
from hw_models.compute.convolution import convolution_of
from hw_models.compute.work import ceil_div
from hw_models.cost import Cost
from hw_models.mapping.problem import ALONE, Beside
from hw_models.mapping.search import Mapping, MappingError, Objective, best_mapping
from hw_models.operands import UnsupportedOperandError, gemm_modes, place
from hw_models.pricing import Pricing
from hw_models.profile import HardwareProfile
from hw_models.ranges import EnergyRange
from hw_models.schema.array import Mode
from hw_models.vector_cost import bits_by_operand, memory_energy, vector_gemm_cost
from lowbit_sim.trace import GemmEvent


@dataclass(frozen=True, kw_only=True)
class GemmCost:
    """A GEMM event's cost and how it runs.

    Attributes:
        cost: The cost of all `count` GEMMs, without static power.
        mode: The mode of the array that it runs in; None on the vector unit.
        mapping: Tiles, loop orders and what bounds it; None on the vector unit.
    """

    cost: Cost
    mode: Mode | None
    mapping: Mapping | None


def gemm_cost(event: GemmEvent, profile: HardwareProfile, objective: Objective = "cycles") -> GemmCost:
    """The cost of a GEMM event, all `count` GEMMs of it.

    Args:
        event: The GEMMs; sizes may be 0.
        profile: The machine.
        objective: What the mapping is chosen for: "cycles", "energy" or "edp".

    Raises:
        UnsupportedOperandError: The machine can't multiply the operands, or not even a smallest tile fits a memory.
        ValueError: An unknown objective.
    """
    return priced_gemm(event, Pricing(profile=profile, objective=objective))


def priced_gemm(event: GemmEvent, pricing: Pricing, beside: Beside = ALONE) -> GemmCost:
    """As `gemm_cost`, for a machine of which much is worked out already.

    On the array, the mapping is chosen with other work `beside` it; the cost is the GEMM's alone.
    """
    profile = pricing.profile
    modes = gemm_modes(event, profile)
    if modes is None:
        return GemmCost(cost=vector_gemm_cost(event, pricing), mode=None, mapping=None)
    lhs, rhs, mode = modes
    try:
        mapping = best_mapping(
            event,
            profile,
            lhs_bits=lhs.operand_bits,
            rhs_bits=rhs.operand_bits,
            mode=mode,
            objective=pricing.objective,
            beside=beside,
        )
    except MappingError as error:
        raise UnsupportedOperandError(f"{place(event)}: {error}") from None
    return GemmCost(cost=_array_cost(event, pricing, mode, mapping), mode=mode, mapping=mapping)


def _array_cost(event: GemmEvent, pricing: Pricing, mode: Mode, mapping: Mapping) -> Cost:
    traffic = mapping.traffic
    arithmetic = arithmetic_energy(event, pricing, mode, mapping.macs)
    return Cost(
        cycles=mapping.cycles,
        compute_cycles=mapping.compute_cycles,
        macs=mapping.macs,
        ideal_cycles=useful_macs(event) / pricing.profile.array.macs_per_cycle(mode),
        dram_bytes=traffic.dram_bytes,
        traffic=bits_by_operand(traffic),
        energy={**arithmetic, **memory_energy(traffic, pricing.energies)},
        cycles_by_bound={mapping.bound_by: mapping.cycles} if mapping.cycles else {},
    )


def useful_macs(event: GemmEvent) -> float:
    """Multiply-accumulates without those of zeros that a stride inserts, over all GEMMs of an event."""
    return event.macs / convolution_of(event).inserted


def arithmetic_energy(event: GemmEvent, pricing: Pricing, mode: Mode, macs: int) -> dict[str, EnergyRange]:
    """Energy of a GEMM event's multiplications, additions and registers.

    Args:
        event: The GEMMs.
        pricing: The machine.
        mode: The mode of the array that they run in.
        macs: Multiply-accumulates that the array does.
    """
    each = pricing.mac_energy(mode, event.accumulator_bits, event.outer_bits)
    scale_products, scale_sums = scaling_energy(event, pricing.profile)
    inner, outer = event.term_additions
    additions = each.add.scaled(inner * macs) + each.outer_add.scaled(outer * outer_additions(event))
    return {
        "multiply": each.multiply.scaled(macs) + scale_products,
        "add": additions + scale_sums,
        "registers": each.registers.scaled(macs),
    }


def outer_additions(event: GemmEvent) -> int:
    """Additions of chunks' sums into the outer accumulator, over all GEMMs of the event.

    One for each chunk; without chunks one for each result, if the outer accumulator has another width.
    """
    if not event.chunk and event.outer_bits == event.accumulator_bits:
        return 0
    chunks = ceil_div(event.K, event.chunk or max(event.K, 1))
    return event.count * event.M * event.N * chunks
