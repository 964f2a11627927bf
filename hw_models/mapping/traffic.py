"""What crosses at each memory under a mapping: the definition, in whole numbers.

The loops over the tiles of the outermost stage enclose those of the next stage, and so on to the array. An operand
crosses into a stage once for each run of the loops that asks for another tile of it. With counts n of tiles, an
operand's tensor therefore crosses, at a single stage,

    n_d times, d the one dimension that the operand does not have, if a loop over one of its own dimensions with more
    than one tile runs inside the loop over d; once otherwise (the tile stays while d runs).

`crossing_elements` says what two stages do, where tiles at the edge hold fewer tiles.

By hand, M = N = K = 4 in tiles of (2, 2, 4) and the order "MNK": a lhs tile [2, 4] stays while N runs, so the lhs
crosses once, 16 elements. The rhs has N inside M, so it crosses n_M = 2 times, 32. A result tile is summed up at
once, and leaves once, 16. In tiles of (2, 2, 2) and the order "KMN" the result has M and N inside K: it leaves twice,
and all but the first time its partial sums come in again.

A tensor behind an unfolded operand counts with the elements that its tiles cover (`conv_tiles`). The array itself
reads from and writes to the innermost memory that holds an operand; where the time dimension is tiled there, it
reads its stationary operand again for each tile, and where that is the reduction, it writes partial sums for each
and reads them back. What enters a memory is billed as a write there and as a read of the next one outwards that
holds the operand, in the end the memory outside; results the other way round.

Time: transfers of double-buffered memories overlap with compute and with one another, so a GEMM takes the longest of
its compute cycles, its bits over each memory's bandwidth, and its bits over the bandwidth outside. What is moved into
and out of a memory that is not double buffered adds to the rest instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.work import ceil_div
from hw_models.mapping.conv_tiles import region_elements
from hw_models.mapping.machine import Level, Memories
from hw_models.mapping.problem import DIMENSIONS, MISSING, OPERAND_DIMENSIONS, Problem
from hw_models.mapping.tiling import Tiling, parts

DRAM = "dram"
Sizes = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Bits of an operand read from and written to a memory; `level` "dram" is the memory outside."""

    level: str
    operand: str
    read_bits: int
    write_bits: int


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What crosses at every memory, by operand."""

    crossings: tuple[Crossing, ...] = ()

    def read_bits(self, level: str) -> int:
        """Bits read from a memory."""
        return sum(c.read_bits for c in self.crossings if c.level == level)

    def write_bits(self, level: str) -> int:
        """Bits written to a memory."""
        return sum(c.write_bits for c in self.crossings if c.level == level)

    def bits(self, level: str) -> int:
        """Bits read from and written to a memory."""
        return self.read_bits(level) + self.write_bits(level)

    @property
    def dram_bytes(self) -> int:
        """Bytes read from and written to the memory outside."""
        return ceil_div(self.read_bits(DRAM), 8) + ceil_div(self.write_bits(DRAM), 8)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a mapping costs.

    Attributes:
        traffic: What crosses, of all equal GEMMs.
        compute_cycles: Cycles of the array.
        cycles: Cycles with all waiting.
        bound_by: What takes the longest: "compute", a memory's name or "dram".
    """

    traffic: Traffic
    compute_cycles: int
    cycles: int
    bound_by: str


def tile_bits(problem: Problem, tile: tuple[int, int, int], operand: str) -> int:
    """Bits that a tile of an operand takes."""
    return _tile_elements(problem, _by_name(tile), operand) * _width(problem, operand)


def _tile_elements(problem: Problem, size: Sizes, operand: str) -> int:
    region = problem.region
    if region is not None and region.operand == operand:
        return region_elements(region, size[region.pixels], size[region.columns])
    a, b = OPERAND_DIMENSIONS[operand]
    if operand != problem.padded:
        return size[a] * size[b]
    step_a, step_b = problem.step(a), problem.step(b)
    return ceil_div(size[a], step_a) * step_a * ceil_div(size[b], step_b) * step_b


def fits(problem: Problem, tile: tuple[int, int, int], level: Level) -> bool:
    """Whether a memory holds the tiles of its operands."""
    return sum(tile_bits(problem, tile, operand) for operand in level.holds) <= level.tile_bits


def evaluate(problem: Problem, memories: Memories, tiling: Tiling) -> Evaluation:
    """What a mapping costs; it is taken to fit (`fits`).

    Args:
        problem: The GEMM.
        memories: The memories.
        tiling: The mapping: a tile and an order for each stage.
    """
    bits = _Bits()
    for operand in OPERAND_DIMENSIONS:
        _cross_stages(problem, memories, tiling, operand, bits)
    _cross_array(problem, memories, tiling, bits)
    compute = compute_cycles(problem, memories, tiling)
    traffic = bits.traffic(problem.work.count)
    times = {
        "compute": compute,
        **{lv.name: ceil_div(traffic.bits(lv.name), lv.bits_per_cycle) for lv in memories.levels},
        DRAM: ceil_div(traffic.bits(DRAM) * memories.frequency_hz, memories.dram_bits_per_second),
    }
    slowest = max(times, key=lambda name: times[name])
    waiting = _unbuffered_cycles(memories, bits.moved, problem.work.count)
    in_turn = compute + sum(waiting.values())
    if times[slowest] < in_turn:
        slowest = max({"compute": compute, **waiting}.items(), key=lambda item: item[1])[0]
    return Evaluation(
        traffic=traffic, compute_cycles=compute, cycles=max(max(times.values()), in_turn), bound_by=slowest
    )


class _Bits:
    """Bits read and written so far, of one GEMM, by memory and operand; and what moves into each memory."""

    def __init__(self) -> None:
        self.read: dict[tuple[str, str], int] = {}
        self.write: dict[tuple[str, str], int] = {}
        self.moved: dict[tuple[str, str], int] = {}

    def add(self, level: Level | None, operand: str, *, read: int = 0, write: int = 0) -> None:
        key = (level.name if level else DRAM, operand)
        self.read[key] = self.read.get(key, 0) + read
        self.write[key] = self.write.get(key, 0) + write

    def move(self, inner: Level, outer: Level | None, bits: int) -> None:
        key = (inner.name, outer.name if outer else DRAM)
        self.moved[key] = self.moved.get(key, 0) + bits

    def traffic(self, count: int) -> Traffic:
        return Traffic(
            crossings=tuple(
                Crossing(
                    level=level,
                    operand=operand,
                    read_bits=count * self.read[level, operand],
                    write_bits=count * self.write[level, operand],
                )
                for level, operand in self.read
            )
        )


def _cross_stages(problem: Problem, memories: Memories, tiling: Tiling, operand: str, bits: _Bits) -> None:
    """What crosses between a stage that holds an operand and the next memory outwards that does."""
    width = _width(problem, operand)
    for stage in range(memories.stages):
        level = memories.level_of(operand, stage)
        if level is None:
            continue
        outer = memories.outwards(operand, stage)
        once = problem.sizes[0] * problem.sizes[1] * width
        crossed = crossing_elements(problem, tiling, stage, operand) * width
        if operand == "result":
            bits.add(level, operand, read=crossed, write=crossed - once)
            bits.add(outer, operand, read=crossed - once, write=crossed)
            bits.move(level, outer, 2 * crossed - once)
        else:
            bits.add(level, operand, write=crossed)
            bits.add(outer, operand, read=crossed)
            bits.move(level, outer, crossed)


def crossing_elements(problem: Problem, tiling: Tiling, stage: int, operand: str) -> int:
    """Elements of an operand that enter a stage; of the result, that leave it.

    The tiles of the stage outside come in up to two sizes along each of the operand's dimensions. For each of these
    kinds, with a x b tiles inside: a single one stays while the outer loop over the missing dimension runs, if that
    runs inside; more of them cross for each of its outer tiles, or for each of its inner ones, if an inner loop over
    more than one of them runs inside the inner loop over the missing dimension.

    Args:
        problem: The GEMM.
        tiling: The mapping.
        stage: The stage.
        operand: "lhs", "rhs" or "result".
    """
    sizes, inner = _by_name(problem.sizes), _by_name(tiling.tiles[stage])
    last = stage + 1 == len(tiling.tiles)
    outer = sizes if last else _by_name(tiling.tiles[stage + 1])
    (a, b), missing = OPERAND_DIMENSIONS[operand], MISSING[operand]
    outer_tiles: Sizes = {d: ceil_div(sizes[d], outer[d]) for d in DIMENSIONS}
    inner_tiles = sum(
        many * ceil_div(part, inner[missing]) for part, many in parts(sizes[missing], outer[missing])
    )
    outer_order = "MNK" if last else tiling.orders[stage + 1]
    stays = 1 if not _asked_inside(outer_order, missing, outer_tiles) else outer_tiles[missing]
    total = 0
    for part_a, many_a in parts(sizes[a], outer[a]):
        for part_b, many_b in parts(sizes[b], outer[b]):
            inside = {a: ceil_div(part_a, inner[a]), b: ceil_div(part_b, inner[b])}
            if inside[a] == inside[b] == 1:
                times = stays
            elif _asked_inside(tiling.orders[stage], missing, inside):
                times = inner_tiles
            else:
                times = outer_tiles[missing]
            once = _once(problem, operand, {a: part_a, b: part_b}, inner)
            total += many_a * many_b * times * once
    # Tiles are taken to begin at the start of a row, so that some of few windows seem to share what they do not.
    whole = _tile_elements(problem, sizes, operand)
    return max(total, whole)


def _by_name(sizes: tuple[int, int, int]) -> Sizes:
    return dict(zip(DIMENSIONS, sizes, strict=True))


def _asked_inside(order: str, missing: str, tiles: Sizes) -> bool:
    """Whether a loop over several tiles, other than the missing dimension's, runs inside that one's."""
    return any(tiles[d] > 1 for d in order[order.index(missing) + 1 :])


def _once(problem: Problem, operand: str, around: Sizes, inner: Sizes) -> int:
    """Elements of all tiles of an operand inside a part of it."""
    a, b = OPERAND_DIMENSIONS[operand]
    return sum(
        many_a * many_b * _tile_elements(problem, {a: part_a, b: part_b}, operand)
        for part_a, many_a in parts(around[a], inner[a])
        for part_b, many_b in parts(around[b], inner[b])
    )


def _cross_array(problem: Problem, memories: Memories, tiling: Tiling, bits: _Bits) -> None:
    """What the array reads from and writes to the innermost memories."""
    work = problem.work
    tiles = sum(many for _, many in time_parts(problem, tiling))
    reads = {"lhs": work.lhs_reads, "rhs": work.rhs_reads}
    for operand, elements in reads.items():
        again = tiles if operand == work.stationary else 1
        whole = problem.padded_elements if operand == problem.padded else elements
        bits.add(memories.innermost(operand), operand, read=again * whole * _width(problem, operand))
    split = (tiles - 1) * problem.sizes[0] * problem.sizes[1] if work.time_dimension == "K" else 0
    width = _width(problem, "result")
    bits.add(
        memories.innermost("result"),
        "result",
        read=(work.partial_reads + split) * width,
        write=(work.result_writes + split) * width,
    )


def time_parts(problem: Problem, tiling: Tiling) -> list[tuple[int, int]]:
    """The runs of steps that the memories cut the array's time dimension into: (steps, how many)."""
    work = problem.work
    if not work.time_dimension:
        return [(work.time, 1)]
    i = DIMENSIONS.index(work.time_dimension)
    inner, *outer = tiling.tiles
    around = outer[0][i] if outer else problem.sizes[i]
    return [
        (ceil_div(tile, problem.time_step), many * many_outside)
        for part, many_outside in parts(problem.sizes[i], around)
        for tile, many in parts(part, inner[i])
    ]


def compute_cycles(problem: Problem, memories: Memories, tiling: Tiling) -> int:
    """Cycles of the arrays for all equal GEMMs."""
    work = problem.work
    fold = sum(many * work.fold_cycles(steps) for steps, many in time_parts(problem, tiling))
    return ceil_div(work.count * work.folds, memories.arrays) * fold + memories.startup_cycles


def _unbuffered_cycles(memories: Memories, moved: dict[tuple[str, str], int], count: int) -> dict[str, int]:
    """Cycles of the transfers that do not overlap, by the memory that waits: at the slower of both ends."""
    cycles: dict[str, int] = {}
    by_name = {lv.name: lv for lv in memories.levels}
    for (inner, outer), bits in moved.items():
        if by_name[inner].double_buffered:
            continue
        there = ceil_div(count * bits, by_name[inner].bits_per_cycle)
        if outer == DRAM:
            here = ceil_div(count * bits * memories.frequency_hz, memories.dram_bits_per_second)
        else:
            here = ceil_div(count * bits, by_name[outer].bits_per_cycle)
        cycles[inner] = cycles.get(inner, 0) + max(there, here)
    return cycles


def _width(problem: Problem, operand: str) -> int:
    return problem.bits[("lhs", "rhs", "result").index(operand)]
