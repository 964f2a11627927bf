"""The best mapping of a GEMM on a machine: over all candidates of `tiling`, by cycles, energy or their product.

Exhaustive over the candidates of every stage and the orders of its loops, the stages jointly. Since the candidates do
not depend on the memories, a larger or a faster one is never worse. Equal cycles are decided by energy, then by bits
at the memory outside; equal energies by cycles; then the first candidate wins. What can't be better is left out
without a look at it: tiles by a bound on all their orders (`kernel.loops`), and tiles of the reduction that a larger
one is as good as in everything (`kernel.reductions`).

Where other work shares the memories meanwhile (`problem.Beside`), the cycles that count are those until both are
done: a mapping that is slower by itself may leave the other work more of the bandwidth. Energy is the GEMM's alone,
but for static power over all these cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Literal, get_args

from hw_models.block_scales import scale_share
from hw_models.compute.convolution import convolution_of
from hw_models.compute.dispatch import array_works
from hw_models.compute.work import ceil_div
from hw_models.mapping.crossing import tile_bits
from hw_models.mapping.evaluation import Evaluation, evaluate
from hw_models.mapping.kernel.inputs import PLACES, candidate_numbers, gemm_numbers, machine_numbers, room
from hw_models.mapping.machine import Memories, memories_of
from hw_models.mapping.merit import Merit, merit
from hw_models.mapping.problem import ALONE, DIMENSIONS, Beside, Problem, region_of
from hw_models.mapping.tiling import ORDERS, Tiling, tile_sizes
from hw_models.mapping.traffic import Traffic
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import GemmEvent, Operand

Objective = Literal["cycles", "energy", "edp"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


class MappingError(ValueError):
    """A GEMM of which not even the smallest tile fits a memory."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """How a GEMM runs on a machine.

    Attributes:
        tiles: (m, n, k) of each stage, from the array outwards.
        orders: Loop order over the tiles of each stage, outermost loop first.
        traffic: What crosses at each memory, of all equal GEMMs.
        compute_cycles: Cycles of the arrays.
        cycles: Cycles with all waiting for memories, without what goes on beside the GEMMs.
        bound_by: What takes the longest of these: "compute", a memory's name or "dram".
        macs: Multiply-accumulates that the array does.
        mapping_efficiency: Share of the array that holds work, 0 to 1.
        evaluated: Mappings that were compared, those that a bound on their tiles excludes included.
    """

    tiles: tuple[tuple[int, int, int], ...]
    orders: tuple[str, ...]
    traffic: Traffic
    compute_cycles: int
    cycles: int
    bound_by: str
    macs: int
    mapping_efficiency: float
    evaluated: int


def best_mapping(
    event: GemmEvent,
    profile: HardwareProfile,
    *,
    lhs_bits: int,
    rhs_bits: int,
    mode: Mode,
    objective: Objective = "cycles",
    beside: Beside = ALONE,
) -> Mapping:
    """The best mapping of an event's GEMMs.

    Args:
        event: The GEMMs; sizes may be 0.
        profile: The machine.
        lhs_bits: Width in which an element of the left operand is stored; scales of blocks come on top.
        rhs_bits: The same of the right operand.
        mode: The mode of the array that it runs in.
        objective: What is best: "cycles", "energy" (of memories) or "edp", their product.
        beside: Other work meanwhile, until whose end the cycles count.

    Raises:
        ValueError: An unknown objective.
        MappingError: Not even the smallest tile fits a memory; the message names it.
    """
    if objective not in OBJECTIVES:
        raise ValueError(unknown("objective", objective, OBJECTIVES))
    memories, index = memories_of(profile), OBJECTIVES.index(objective)
    problems = problems_of(event, profile, lhs_bits=lhs_bits, rhs_bits=rhs_bits, mode=mode)
    if len(problems) == 1:
        return _best(replace(problems[0], beside=beside), memories, index)
    return _best_way(tuple(replace(problem, beside=beside) for problem in problems), memories, index)


def problems_of(
    event: GemmEvent, profile: HardwareProfile, *, lhs_bits: int, rhs_bits: int, mode: Mode
) -> list[Problem]:
    """What `best_mapping` maps, with nothing beside it: one for each way in which the array can take the GEMMs.

    The arguments are those of `best_mapping`.
    """
    inserted = convolution_of(event).inserted if profile.array.skips_zeros else 1
    region = region_of(event)
    (lhs, rhs, sums, finished), units = _widths(
        lhs_bits, rhs_bits, event.lhs, event.rhs, event.outer_bits, event.result_bits or event.outer_bits
    )
    return [
        Problem(
            sizes=(event.M, event.N, event.K),
            bits=(lhs, rhs, sums),
            finished_bits=finished,
            units_per_bit=units,
            work=work,
            region=region,
            padded=work.stationary if profile.array.padded_loads else "",
            time_step=mode.macs_per_pe_per_cycle * inserted if work.time_dimension == "K" else 1,
        )
        for work in array_works(event, profile.array, mode)
    ]


@lru_cache(maxsize=1 << 10)
def _widths(
    lhs_bits: int, rhs_bits: int, lhs: Operand, rhs: Operand, sum_bits: int, result_bits: int
) -> tuple[tuple[int, int, int, int], int]:
    """Widths of lhs, rhs, sums and finished results in units, and the units in a bit that make all of them whole."""
    exact = [
        lhs_bits + scale_share(lhs),
        rhs_bits + scale_share(rhs),
        Fraction(sum_bits),
        Fraction(result_bits),
    ]
    units = lcm(*(width.denominator for width in exact))
    left, right, sums, finished = (int(width * units) for width in exact)
    return (left, right, sums, finished), units


@lru_cache(maxsize=1 << 12)
def _best_way(problems: tuple[Problem, ...], memories: Memories, objective: int) -> Mapping:
    """The best mapping over several problems, of which not all may fit the memories."""
    found: list[tuple[Merit, Mapping]] = []
    refusal: MappingError | None = None
    for problem in problems:
        try:
            mapping = _best(problem, memories, objective)
        except MappingError as error:
            refusal = refusal or error
            continue
        cost = evaluate(problem, memories, Tiling(tiles=mapping.tiles, orders=mapping.orders))
        found.append((merit(cost, memories, OBJECTIVES[objective]), mapping))
    if not found:
        assert refusal is not None
        raise refusal
    return min(found, key=lambda each: each[0])[1]


@lru_cache(maxsize=1 << 16)
def _best(problem: Problem, memories: Memories, objective: int) -> Mapping:
    if not problem.work.folds or not problem.work.count:
        return _mapping(problem, Tiling(tiles=(), orders=()), _nothing(), 0)
    tiling, evaluated = search(problem, memories, objective)
    if not evaluated:
        raise MappingError(_does_not_fit(problem, memories))
    return _mapping(problem, tiling, evaluate(problem, memories, tiling), evaluated)


def _nothing() -> Evaluation:
    return Evaluation(traffic=Traffic(), compute_cycles=0, cycles=0, group_cycles=0, bound_by="compute")


def _mapping(problem: Problem, tiling: Tiling, cost: Evaluation, evaluated: int) -> Mapping:
    return Mapping(
        tiles=tiling.tiles,
        orders=tiling.orders,
        traffic=cost.traffic,
        compute_cycles=cost.compute_cycles,
        cycles=cost.cycles,
        bound_by=cost.bound_by,
        macs=problem.work.macs,
        mapping_efficiency=problem.work.mapping_efficiency,
        evaluated=evaluated,
    )


def candidates(problem: Problem) -> tuple[tuple[int, ...], ...]:
    """The tiles of M, N and K, ascending."""
    return tuple(tile_sizes(size, problem.step(d)) for d, size in zip(DIMENSIONS, problem.sizes, strict=True))


def search(
    problem: Problem, memories: Memories, objective: int, *, exhaustive: bool = False
) -> tuple[Tiling, int]:
    """The best tiling, and how many candidates were looked at: 0 if none fits.

    Args:
        problem: A GEMM without a size of 0.
        memories: The memories.
        objective: Index into `OBJECTIVES`.
        exhaustive: Whether to cost also what a bound has ruled out; the result is the same.
    """
    from hw_models.mapping.kernel.compiled import compiled_search  # imports numba

    found = room()
    looked = compiled_search(
        gemm_numbers(problem, memories),
        machine_numbers(memories, problem.units_per_bit),
        *candidate_numbers(candidates(problem)),
        PLACES,
        objective,
        not exhaustive,
        found,
    )
    tiling = Tiling(
        tiles=tuple((int(m), int(n), int(k)) for m, n, k in found["best_tiles"][: memories.stages]),
        orders=tuple(ORDERS[i] for i in found["best_orders"][: memories.stages]),
    )
    return tiling, int(looked)


def _does_not_fit(problem: Problem, memories: Memories) -> str:
    """Which memory the smallest tile overflows, in words."""
    units = problem.units_per_bit
    m, n, k = (sizes[0] for sizes in candidates(problem))
    for level in memories.levels:
        needed = problem.work.at_once * sum(tile_bits(problem, (m, n, k), operand) for operand in level.holds)
        if needed > level.tile_bits * units:
            half = " for one half of it, as it is double buffered," if level.double_buffered else ""
            return (
                f"memory.{level.name}: the smallest tile, {m} x {n} results over {k} products, takes "
                f"{ceil_div(needed, 8 * units)} bytes of {' and '.join(level.holds)}, but there are{half} "
                f"{level.tile_bits // 8} bytes"
            )
    return "no tile fits the memories of all stages together"
