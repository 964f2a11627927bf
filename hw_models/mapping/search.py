"""The best mapping of a GEMM on a machine: over all candidates of `tiling`, by cycles, energy or their product.

Exhaustive over the candidates of every stage and the orders of its loops, the stages jointly, but that the tile of
the reduction next to the array is the largest that fits beside those of M and N, since a larger one moves no more
(fewer partial sums, fewer halos). A convolution's tiles are an exception: where they end between channels, smaller
ones may cover less of the tensor in all. On machines of one stage all of them are therefore tried, so that a larger
memory is never worse; on machines of two stages it can be, for convolutions.
Equal cycles are decided by energy, then by bits at the memory outside; equal energies by cycles; then the first
candidate wins. Tiles that can't be better in any order are left out by a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Literal, get_args

import numpy as np

from hw_models.compute.convolution import convolution_of
from hw_models.compute.dispatch import array_work
from hw_models.compute.work import ceil_div
from hw_models.mapping.machine import Memories, memories_of
from hw_models.mapping.problem import DIMENSIONS, Problem, region_of
from hw_models.mapping.tiling import ORDERS, Tiling, tile_sizes
from hw_models.mapping.traffic import Evaluation, Traffic, evaluate, tile_bits
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import GemmEvent

Objective = Literal["cycles", "energy", "edp"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

_OPERANDS = ("lhs", "rhs", "result")
_ORDER_INDICES = np.array([[DIMENSIONS.index(d) for d in order] for order in ORDERS])


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
        cycles: Cycles with all waiting for memories.
        bound_by: What takes the longest: "compute", a memory's name or "dram".
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
) -> Mapping:
    """The best mapping of an event's GEMMs.

    Args:
        event: The GEMMs; sizes may be 0.
        profile: The machine.
        lhs_bits: Width in which the left operand is stored.
        rhs_bits: Width in which the right operand is stored.
        mode: The mode of the array that it runs in.
        objective: What is best: "cycles", "energy" (of memories) or "edp", their product.

    Raises:
        ValueError: An unknown objective.
        MappingError: Not even the smallest tile fits a memory; the message names it.
    """
    if objective not in OBJECTIVES:
        raise ValueError(unknown("objective", objective, OBJECTIVES))
    problem = _problem(event, profile, lhs_bits, rhs_bits, mode)
    return _best(problem, memories_of(profile), OBJECTIVES.index(objective))


def _problem(event: GemmEvent, profile: HardwareProfile, lhs_bits: int, rhs_bits: int, mode: Mode) -> Problem:
    work = array_work(event, profile.array, mode)
    inserted = convolution_of(event).inserted if profile.array.skips_zeros else 1
    return Problem(
        sizes=(event.M, event.N, event.K),
        bits=(lhs_bits, rhs_bits, event.outer_bits),
        work=work,
        region=region_of(event),
        padded=work.stationary if profile.array.padded_loads else "",
        time_step=mode.macs_per_pe_per_cycle * inserted if work.time_dimension == "K" else 1,
    )


@lru_cache(maxsize=1 << 16)
def _best(problem: Problem, memories: Memories, objective: int) -> Mapping:
    if not problem.work.folds or not problem.work.count:
        return _mapping(problem, Tiling(tiles=(), orders=()), _nothing(), 0)
    tiling, evaluated = search(problem, memories, objective)
    if not evaluated:
        raise MappingError(_does_not_fit(problem, memories))
    return _mapping(problem, tiling, evaluate(problem, memories, tiling), evaluated)


def _nothing() -> Evaluation:
    return Evaluation(traffic=Traffic(), compute_cycles=0, cycles=0, bound_by="compute")


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
    from hw_models.mapping import kernel  # imports numba

    m_sizes, n_sizes, k_sizes = (np.array(sizes, dtype=np.float64) for sizes in candidates(problem))
    holds, levels, dram, capacity = _memory_numbers(memories)
    tiles, orders, looked = kernel.search(
        _gemm_numbers(problem),
        _work_numbers(problem, memories),
        _region_numbers(problem),
        holds,
        levels,
        dram,
        capacity,
        _ORDER_INDICES,
        objective,
        m_sizes,
        n_sizes,
        k_sizes,
        not exhaustive,
    )
    tiling = Tiling(
        tiles=tuple((int(m), int(n), int(k)) for m, n, k in tiles[: memories.stages]),
        orders=tuple(ORDERS[i] for i in orders[: memories.stages]),
    )
    return tiling, int(looked)


def _gemm_numbers(problem: Problem) -> np.ndarray:
    padded = _OPERANDS.index(problem.padded) if problem.padded else -1
    steps = (problem.step(d) for d in DIMENSIONS)
    return np.array([*problem.sizes, *problem.bits, padded, *steps], dtype=np.float64)


def _work_numbers(problem: Problem, memories: Memories) -> np.ndarray:
    work, whole = problem.work, problem.padded_elements
    return np.array(
        [
            work.count,
            work.folds,
            work.time,
            work.fold_overhead,
            work.fold_minimum,
            whole if problem.padded == "lhs" else work.lhs_reads,
            whole if problem.padded == "rhs" else work.rhs_reads,
            work.result_writes,
            work.partial_reads,
            memories.arrays,
            DIMENSIONS.index(work.time_dimension) if work.time_dimension else -1,
            _OPERANDS.index(work.stationary) if work.stationary else -1,
            memories.startup_cycles,
        ],
        dtype=np.float64,
    )


def _region_numbers(problem: Problem) -> np.ndarray:
    region = problem.region
    if region is None:
        return np.full(12, -1.0)
    numbers = [
        _OPERANDS.index(region.operand),
        *region.grid,
        *region.source,
        *region.span,
        *region.step,
        *region.inserted,
        region.window,
    ]
    return np.array(numbers, dtype=np.float64)


@lru_cache(maxsize=1 << 10)
def _memory_numbers(memories: Memories) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """holds [stages, operands], levels [levels, 4], dram [5] and capacities [levels], as the kernel takes them."""
    holds = np.full((memories.stages, len(_OPERANDS)), -1, dtype=np.int64)
    for i, level in enumerate(memories.levels):
        for operand in level.holds:
            holds[level.stage, _OPERANDS.index(operand)] = i
    levels = np.array(
        [
            [lv.bits_per_cycle, lv.read_pj_per_bit, lv.write_pj_per_bit, lv.double_buffered]
            for lv in memories.levels
        ],
        dtype=np.float64,
    )
    # Small numbers stay exact in float64.
    common = gcd(memories.dram_bits_per_second, memories.frequency_hz)
    dram = np.array(
        [
            memories.dram_bits_per_second // common,
            memories.frequency_hz // common,
            memories.dram_read_pj_per_bit,
            memories.dram_write_pj_per_bit,
            memories.static_pj_per_cycle,
        ],
        dtype=np.float64,
    )
    return holds, levels, dram, np.array([lv.tile_bits for lv in memories.levels], dtype=np.float64)


def _does_not_fit(problem: Problem, memories: Memories) -> str:
    """Which memory the smallest tile overflows, in words."""
    m, n, k = (sizes[0] for sizes in candidates(problem))
    for level in memories.levels:
        needed = sum(tile_bits(problem, (m, n, k), operand) for operand in level.holds)
        if needed > level.tile_bits:
            half = " for one half of it, as it is double buffered," if level.double_buffered else ""
            return (
                f"memory.{level.name}: the smallest tile, {m} x {n} results over {k} products, takes "
                f"{ceil_div(needed, 8)} bytes of {' and '.join(level.holds)}, but there are{half} "
                f"{level.tile_bits // 8} bytes"
            )
    return "no tile fits the memories of all stages together"
