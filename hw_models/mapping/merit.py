"""How good a mapping is by an objective, as the compiled search has it, to choose between several searches.

energy = bits read and written at each memory x their nominal energy + static power over all cycles
"""

from __future__ import annotations

from hw_models.mapping.evaluation import Evaluation
from hw_models.mapping.machine import Memories
from hw_models.mapping.problem import DRAM

#: Less is better; what comes later decides between equals.
Merit = tuple[float, ...]


def merit(cost: Evaluation, memories: Memories, objective: str) -> Merit:
    """Less is better.

    Args:
        cost: What a mapping costs.
        memories: The memories.
        objective: "cycles", "energy" or "edp".
    """
    cycles, outside = float(cost.group_cycles), float(cost.traffic.bits(DRAM))
    energy = _energy_pj(cost, memories)
    match objective:
        case "cycles":
            return cycles, energy, outside
        case "energy":
            return energy, cycles, outside
        case _:
            return cycles * energy, cycles, energy, outside


def _energy_pj(cost: Evaluation, memories: Memories) -> float:
    each = {lv.name: (lv.read_pj_per_bit, lv.write_pj_per_bit) for lv in memories.levels}
    each[DRAM] = (memories.dram_read_pj_per_bit, memories.dram_write_pj_per_bit)
    moved = sum(
        c.read_bits * each[c.level][0] + c.write_bits * each[c.level][1] for c in cost.traffic.crossings
    )
    return moved + cost.group_cycles * memories.static_pj_per_cycle
