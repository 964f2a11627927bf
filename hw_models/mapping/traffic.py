"""What crosses at each memory under a mapping, counted in units (`Problem.units_per_bit`) and told in whole bits.

What enters a stage (`crossing`) is billed as a write at its memory and as a read of the next one outwards that holds
the operand, in the end the memory outside; results the other way round. The array itself reads from and writes to the
innermost memory that holds an operand; where the time dimension is tiled there, it reads its stationary operand again
for each tile, and where that is the reduction, it writes partial sums for each and reads them back.

Results leave the innermost memory that holds them once as finished ones, which may be narrower than sums
(`Problem.finished_bits`); sums that leave unfinished and come back keep their width. Where no memory on the chip
holds results, they leave the array so. Bits are rounded up for a whole memory: its operands' add up to that.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.work import ceil_div
from hw_models.mapping.crossing import crossing_elements
from hw_models.mapping.machine import Level, Memories
from hw_models.mapping.problem import DIMENSIONS, DRAM, OPERAND_DIMENSIONS, Problem
from hw_models.mapping.tiling import Tiling, parts


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


class Bits:
    """Units read and written so far, of one GEMM, by memory and operand; and what moves into each memory."""

    def __init__(self) -> None:
        self.read: dict[tuple[str, str], int] = {}
        self.write: dict[tuple[str, str], int] = {}
        self.moved: dict[tuple[str, str], int] = {}

    def add(self, level: Level | None, operand: str, *, read: int = 0, write: int = 0) -> None:
        """Add what is read from and written to a memory; None is the one outside."""
        key = (level.name if level else DRAM, operand)
        self.read[key] = self.read.get(key, 0) + read
        self.write[key] = self.write.get(key, 0) + write

    def move(self, inner: Level, outer: Level | None, units: int) -> None:
        """Add what crosses between two memories, in both directions."""
        key = (inner.name, outer.name if outer else DRAM)
        self.moved[key] = self.moved.get(key, 0) + units

    def traffic(self, count: int, units_per_bit: int) -> Traffic:
        """The traffic of so many equal GEMMs, in bits."""
        bits = _WholeBits(units_per_bit)
        return Traffic(
            crossings=tuple(
                Crossing(
                    level=level,
                    operand=operand,
                    read_bits=bits.next(level, count * self.read[level, operand]),
                    write_bits=bits.next(level, count * self.write[level, operand]),
                )
                for level, operand in self.read
            )
        )


class _WholeBits:
    """Turns units into bits so that those of each memory add up to all its units, rounded up once."""

    def __init__(self, units_per_bit: int) -> None:
        self.units_per_bit = units_per_bit
        self.units: dict[str, int] = {}

    def next(self, level: str, units: int) -> int:
        before = self.units.get(level, 0)
        self.units[level] = before + units
        return ceil_div(before + units, self.units_per_bit) - ceil_div(before, self.units_per_bit)


def bits_of(problem: Problem, memories: Memories, tiling: Tiling) -> Bits:
    """What one GEMM of a problem moves under a mapping."""
    bits = Bits()
    for operand in OPERAND_DIMENSIONS:
        _cross_stages(problem, memories, tiling, operand, bits)
    _cross_array(problem, memories, tiling, bits)
    return bits


def _cross_stages(problem: Problem, memories: Memories, tiling: Tiling, operand: str, bits: Bits) -> None:
    """What crosses between a stage that holds an operand and the next memory outwards that does."""
    width = problem.width(operand)
    for stage in range(memories.stages):
        level = memories.level_of(operand, stage)
        if level is None:
            continue
        outer = memories.outwards(operand, stage)
        once = problem.sizes[0] * problem.sizes[1] * width
        crossed = crossing_elements(problem, tiling, stage, operand) * width
        if operand == "result":
            back, out = crossed - once, crossed - problem.saved
            innermost = level is memories.innermost(operand)
            bits.add(level, operand, read=crossed if innermost else out, write=back)
            bits.add(outer, operand, read=back, write=out)
            bits.move(level, outer, out + back)
        else:
            bits.add(level, operand, write=crossed)
            bits.add(outer, operand, read=crossed)
            bits.move(level, outer, crossed)


def _cross_array(problem: Problem, memories: Memories, tiling: Tiling, bits: Bits) -> None:
    """What the array reads from and writes to the innermost memories."""
    work = problem.work
    tiles = sum(many for _, many in time_parts(problem, tiling))
    reads = {"lhs": work.lhs_reads, "rhs": work.rhs_reads}
    for operand, elements in reads.items():
        again = tiles if operand == work.stationary else 1
        whole = problem.padded_elements if operand == problem.padded else elements
        bits.add(memories.innermost(operand), operand, read=again * whole * problem.width(operand))
    split = (tiles - 1) * problem.sizes[0] * problem.sizes[1] if work.time_dimension == "K" else 0
    width, level = problem.width("result"), memories.innermost("result")
    bits.add(
        level,
        "result",
        read=(work.partial_reads + split) * width,
        write=(work.result_writes + split) * width - (0 if level else problem.saved),
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
