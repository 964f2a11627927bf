"""What a mapping costs: the definition that the compiled search is held to.

Transfers of double-buffered memories overlap with compute and with one another, so a GEMM takes the longest of its
compute cycles, its bits over each memory's bandwidth, and its bits over the bandwidth outside. What is moved into and
out of a memory that is not double buffered adds to the compute cycles instead.

With work beside it (`problem.Beside`) that shares the memories, both are through after

    the longest of the GEMM's own cycles, the other unit's cycles, and all bits over each bandwidth
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.work import ceil_div
from hw_models.mapping.machine import Memories
from hw_models.mapping.problem import DRAM, Beside, Problem
from hw_models.mapping.tiling import Tiling
from hw_models.mapping.traffic import Traffic, bits_of, time_parts


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a mapping costs.

    Attributes:
        traffic: What crosses, of all equal GEMMs.
        compute_cycles: Cycles of the array.
        cycles: Cycles with all waiting, of the GEMMs alone.
        group_cycles: Cycles until the work beside them is done too.
        bound_by: What takes the longest of `cycles`: "compute", a memory's name or "dram".
    """

    traffic: Traffic
    compute_cycles: int
    cycles: int
    group_cycles: int
    bound_by: str


def evaluate(problem: Problem, memories: Memories, tiling: Tiling) -> Evaluation:
    """What a mapping costs; it is taken to fit (`crossing.fits`).

    Args:
        problem: The GEMM.
        memories: The memories.
        tiling: The mapping: a tile and an order for each stage.
    """
    bits, count = bits_of(problem, memories, tiling), problem.work.count
    units = problem.units_per_bit
    traffic, compute = bits.traffic(count, units), compute_cycles(problem, memories, tiling)
    moved = {between: ceil_div(count * moved, units) for between, moved in bits.moved.items()}
    waiting = _unbuffered_cycles(memories, moved)
    times = {"compute": compute} | _memory_cycles(memories, traffic)
    cycles = max(*times.values(), compute + sum(waiting.values()))
    parts = times if cycles in times.values() else {"compute": compute, **waiting}
    shared = _memory_cycles(memories, traffic, problem.beside)
    return Evaluation(
        traffic=traffic,
        compute_cycles=compute,
        cycles=cycles,
        group_cycles=max(cycles, problem.beside.cycles, *shared.values()),
        bound_by=max(parts, key=lambda name: parts[name]),
    )


def _memory_cycles(memories: Memories, traffic: Traffic, beside: Beside | None = None) -> dict[str, int]:
    """Cycles that each memory needs for what crosses there, with what other work moves."""
    others = dict(beside.bits) if beside else {}
    return {
        name: memories.cycles_at(name, traffic.bits(name) + others.get(name, 0))
        for name in (*(lv.name for lv in memories.levels), DRAM)
    }


def compute_cycles(problem: Problem, memories: Memories, tiling: Tiling) -> int:
    """Cycles of the arrays for all equal GEMMs."""
    work = problem.work
    fold = sum(many * work.fold_cycles(steps) for steps, many in time_parts(problem, tiling))
    return ceil_div(work.all_folds, memories.arrays) * fold + memories.startup_cycles


def _unbuffered_cycles(memories: Memories, moved: dict[tuple[str, str], int]) -> dict[str, int]:
    """Cycles of the transfers that do not overlap, by the memory that waits: at the slower of both ends."""
    cycles: dict[str, int] = {}
    waits = {lv.name for lv in memories.levels if not lv.double_buffered}
    for (inner, outer), bits in moved.items():
        if inner in waits:
            slower = max(memories.cycles_at(name, bits) for name in (inner, outer))
            cycles[inner] = cycles.get(inner, 0) + slower
    return cycles
