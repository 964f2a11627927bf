"""A problem and the memories as the compiled search takes them: records of numbers, in float64.

The operands lhs, rhs and result are 0, 1 and 2, the dimensions M, N and K as well; a memory is its place among
`Memories.levels`, and the memory outside comes after the last of them. -1 stands for none.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from hw_models.mapping.machine import Level, Memories
from hw_models.mapping.problem import DIMENSIONS, DRAM, OPERAND_DIMENSIONS, Problem
from hw_models.mapping.tiling import ORDERS

OPERANDS = tuple(OPERAND_DIMENSIONS)

#: The place of each dimension's loop in each order, 0 for the outermost: [orders, 3].
PLACES = np.array([[order.index(d) for d in DIMENSIONS] for order in ORDERS])

#: Most stages, and most memories: one for each operand at each stage, and the one outside.
STAGES = 2
MEMORIES = STAGES * len(OPERANDS) + 1

#: A `Region`; without one the operand is -1.
_REGION = np.dtype(
    [("operand", "i8"), ("window", "f8")]
    + [(name, "f8", 2) for name in ("grid", "source", "span", "step", "inserted")]
)

#: An `ArrayWork` with the arrays that do it: folds of all GEMMs, elements of lhs and rhs that one reads.
_WORK = np.dtype(
    [
        ("count", "f8"),
        ("at_once", "f8"),
        ("folds", "f8"),
        ("time", "f8"),
        ("time_dimension", "i8"),
        ("fold_overhead", "f8"),
        ("fold_minimum", "f8"),
        ("reads", "f8", 2),
        ("stationary", "i8"),
        ("result_writes", "f8"),
        ("partial_reads", "f8"),
        ("arrays", "f8"),
        ("startup_cycles", "f8"),
    ]
)

#: A `Problem`, its sizes, widths and steps by dimension or operand; bits, its own and the memories', in its units.
_GEMM = np.dtype(
    [
        ("sizes", "f8", 3),
        ("widths", "f8", 3),
        ("saved", "f8"),
        ("steps", "f8", 3),
        ("padded", "i8"),
        ("region", _REGION),
        ("work", _WORK),
        ("beside_bits", "f8", MEMORIES),
        ("beside_cycles", "f8"),
    ]
)

#: The `Memories`, so many `levels` and the one outside. `holds` and `outwards` are the memory of a stage that holds
#: an operand, and the next one beyond; `innermost` is the one at the array. `bits[i]` bits cross at memory i in
#: `clocks[i]` cycles.
_MACHINE = np.dtype(
    [
        ("stages", "i8"),
        ("levels", "i8"),
        ("holds", "i8", (STAGES, 3)),
        ("outwards", "i8", (STAGES, 3)),
        ("innermost", "i8", 3),
        ("capacity", "f8", MEMORIES),
        ("double_buffered", "i8", MEMORIES),
        ("bits", "f8", MEMORIES),
        ("clocks", "f8", MEMORIES),
        ("read_pj", "f8", MEMORIES),
        ("write_pj", "f8", MEMORIES),
        ("static_pj_per_cycle", "f8"),
    ]
)

#: Room to work in, and the best mapping so far. `outer` and `inner` are the tiles looked at, inside the `whole` GEMM;
#: `kinds`, `counts` and `crossed` belong to each stage (`crossing`), `asked` to each order outside the inner one, its
#: last row to none; `base`, `moved`, `waits` and `cost` to a mapping (`cost`). `untiled` is the base of one tile, and
#: `least` a cost that can't be undercut. `best`, `best_tiles` and `best_orders` are the best cost, its tiles and the
#: places of its orders.
_ROOM = np.dtype(
    [
        *((name, "f8", 3) for name in ("whole", "outer", "inner", "cost", "least", "best")),
        ("kinds", "f8", (STAGES, 3, 4, 3)),
        ("counts", "f8", (STAGES, 3, 3)),
        ("crossed", "f8", (STAGES, 3)),
        ("asked", "i8", (len(ORDERS) + 1, 3)),
        *((name, "f8", (2, MEMORIES)) for name in ("base", "moved", "untiled")),
        ("waits", "f8", (MEMORIES, MEMORIES)),
        ("best_tiles", "f8", (STAGES, 3)),
        ("best_orders", "i8", STAGES),
    ]
)


def _record(layout: np.dtype, **fields: Any) -> np.void:
    """A record; arrays may be shorter than their field, whose rest is 0."""
    record = np.zeros(1, layout)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            record[name][(0, *map(slice, value.shape))] = value
        else:
            record[name][0] = value
    return record[0]


def room() -> np.void:
    """Room for one search to work in."""
    return _record(_ROOM)


class Candidates(NamedTuple):
    """The tiles of M, N and K to try, ascending."""

    m: np.ndarray
    n: np.ndarray
    k: np.ndarray


def candidate_numbers(candidates: tuple[tuple[int, ...], ...]) -> Candidates:
    """The candidates of M, N and K."""
    return Candidates(*(_floats(sizes) for sizes in candidates))


def gemm_numbers(problem: Problem, memories: Memories) -> np.void:
    """A problem on a machine."""
    beside = dict(problem.beside.bits)
    return _record(
        _GEMM,
        sizes=_floats(problem.sizes),
        widths=_floats(problem.bits),
        saved=problem.saved,
        steps=_floats([problem.step(d) for d in DIMENSIONS]),
        padded=_index(OPERANDS, problem.padded),
        region=_region_numbers(problem),
        work=_work_numbers(problem, memories),
        beside_bits=_floats(
            [
                problem.units_per_bit * beside.get(name, 0)
                for name in (*(lv.name for lv in memories.levels), DRAM)
            ]
        ),
        beside_cycles=problem.beside.cycles,
    )


def _floats(numbers: object) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name else -1


def _work_numbers(problem: Problem, memories: Memories) -> np.void:
    work, whole = problem.work, problem.padded_elements
    reads = {"lhs": work.lhs_reads, "rhs": work.rhs_reads}
    return _record(
        _WORK,
        count=work.count,
        at_once=work.at_once,
        folds=work.all_folds,
        time=work.time,
        time_dimension=_index(DIMENSIONS, work.time_dimension),
        fold_overhead=work.fold_overhead,
        fold_minimum=work.fold_minimum,
        reads=_floats([whole if operand == problem.padded else read for operand, read in reads.items()]),
        stationary=_index(OPERANDS, work.stationary),
        result_writes=work.result_writes,
        partial_reads=work.partial_reads,
        arrays=memories.arrays,
        startup_cycles=memories.startup_cycles,
    )


def _region_numbers(problem: Problem) -> np.void:
    region = problem.region
    if region is None:
        return _record(_REGION, operand=-1)
    return _record(
        _REGION,
        operand=OPERANDS.index(region.operand),
        window=region.window,
        grid=region.grid,
        source=region.source,
        span=region.span,
        step=region.step,
        inserted=region.inserted,
    )


@lru_cache(maxsize=1 << 10)
def machine_numbers(memories: Memories, units_per_bit: int = 1) -> np.void:
    """The memories of a machine, for problems of so many units in a bit."""
    levels, units = memories.levels, units_per_bit
    # Small numbers stay exact in float64.
    common = gcd(memories.dram_bits_per_second, memories.frequency_hz)
    return _record(
        _MACHINE,
        stages=memories.stages,
        levels=len(levels),
        holds=_places(
            memories, [[memories.level_of(o, s) for o in OPERANDS] for s in range(memories.stages)], -1
        ),
        outwards=_places(
            memories,
            [[memories.outwards(o, s) for o in OPERANDS] for s in range(memories.stages)],
            len(levels),
        ),
        innermost=_places(memories, [[memories.innermost(o) for o in OPERANDS]], len(levels))[0],
        capacity=_floats([units * lv.tile_bits for lv in levels]),
        double_buffered=np.array([lv.double_buffered for lv in levels]),
        bits=_floats([*(lv.bits_per_cycle for lv in levels), memories.dram_bits_per_second // common])
        * units,
        clocks=_floats([*(1 for _ in levels), memories.frequency_hz // common]),
        read_pj=_floats([*(lv.read_pj_per_bit for lv in levels), memories.dram_read_pj_per_bit]) / units,
        write_pj=_floats([*(lv.write_pj_per_bit for lv in levels), memories.dram_write_pj_per_bit]) / units,
        static_pj_per_cycle=memories.static_pj_per_cycle,
    )


def _places(memories: Memories, found: list[list[Level | None]], otherwise: int) -> np.ndarray:
    place = {lv.name: i for i, lv in enumerate(memories.levels)}
    return np.array([[place[lv.name] if lv else otherwise for lv in row] for row in found], dtype=np.int64)
