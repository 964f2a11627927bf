"""Traffic of one GEMM at each memory, in closed form.

**Array side.** A schedule walks each tensor a number of times (rf, cf = row and column folds):

| dataflow | lhs [M, K] | rhs [K, N] | result [M, N] |
|----------|------------|------------|---------------|
| os       | cf         | rf         | 1             |
| ws       | cf         | 1          | rf            |
| is       | 1          | cf         | rf            |

These are SCALE-Sim 3.0.0's counts of SRAM reads and writes, but for two things: it adds rf cf (R + C) writes
to "os", which is a defect, and it never reads partial sums back. Here each of the rf passes over the result
but the first reads the partial sums of the one before, and that is billed. Operands come from the SRAM;
partial sums and results live in the accumulator memory, at the outer accumulator's width.

**DRAM side.** The result is made in blocks of Mb x Nb elements, as near to square as M and N allow, whose
partial sums stay in the accumulator memory over the whole reduction; so a result crosses once. Without
further reuse the lhs crosses once for each of the ceil(N / Nb) block columns and the rhs once for each of the
ceil(M / Mb) block rows (the classic count of blocked multiplication). An operand crosses once if what the
inner loop over blocks needs again stays in the SRAM:

| outer loop over | lhs crosses once if | rhs crosses once if |
|-----------------|---------------------|---------------------|
| block rows      | Mb K elements fit   | K N elements fit    |
| block columns   | M K elements fit    | K Nb elements fit   |

and the order with fewer bytes is taken. Transfers are double buffered, so half of a memory works while the
other half fills: blocks have half of the accumulator memory, an operand has a quarter of the SRAM. The result
leaves at the outer accumulator's width; requantizing it is vector work, which the trace holds apart. What
crosses to or from the DRAM is also billed as a write to (or a read from) the on-chip memory. Blocks do not
add to the compute cycles or to the array side: the array is taken to run on from block to block.

A convolution's unfolded operand counts at the DRAM as the tensor that it is unfolded from: the array reads
overlapping windows out of the SRAM.

**Vector unit.** A GEMM of floats that the array has no mode for moves its operands and its result once each
between DRAM, SRAM and vector unit, at 32 bits an element, a convolution's operand as the tensor. That is a lower
bound: operands that do not fit the unit's registers would be read again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hw_models.cycles import Schedule, ceil_div
from hw_models.operands import VECTOR_ELEMENT_BITS
from hw_models.profile import HardwareProfile
from lowbit_sim.trace import ConvGeometry, GemmEvent


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What crosses the ports of each memory: on-chip in bits, DRAM in bytes."""

    sram_read_bits: int = 0
    sram_write_bits: int = 0
    accumulator_read_bits: int = 0
    accumulator_write_bits: int = 0
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0

    @property
    def sram_bits(self) -> int:
        """Bits read and written at the SRAM."""
        return self.sram_read_bits + self.sram_write_bits

    @property
    def accumulator_bits(self) -> int:
        """Bits read and written at the accumulator memory."""
        return self.accumulator_read_bits + self.accumulator_write_bits

    @property
    def dram_bytes(self) -> int:
        """Bytes read and written at the DRAM."""
        return self.dram_read_bytes + self.dram_write_bytes


@dataclass(frozen=True, kw_only=True)
class ArrayAccesses:
    """Elements that cross between the array and the on-chip memories in one GEMM.

    Attributes:
        lhs_reads, rhs_reads: Elements of the operands read.
        result_writes: Partial sums and results written.
        partial_reads: Partial sums read back.
    """

    lhs_reads: int
    rhs_reads: int
    result_writes: int
    partial_reads: int


def array_accesses(M: int, N: int, K: int, schedule: Schedule, dataflow: str) -> ArrayAccesses:
    """What a schedule of a GEMM [M, K] x [K, N] reads and writes.

    Args:
        M: Rows of the left operand, 1 or more.
        N: Columns of the right operand, 1 or more.
        K: Length of the reduction, 1 or more.
        schedule: The schedule.
        dataflow: Its dataflow.
    """
    rows, columns = schedule.row_folds, schedule.column_folds
    passes = {"os": (columns, rows, 1), "ws": (columns, 1, rows), "is": (1, columns, rows)}
    lhs, rhs, result = passes[dataflow]
    return ArrayAccesses(
        lhs_reads=lhs * M * K,
        rhs_reads=rhs * K * N,
        result_writes=result * M * N,
        partial_reads=(result - 1) * M * N,
    )


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The blocks of a result: block rows of `height` elements, block columns of `width`."""

    height: int
    width: int


def result_blocks(M: int, N: int, elements: int) -> Blocks:
    """The most nearly square blocks of a result [M, N] that hold at most a number of elements, at least 1."""
    height = min(M, max(1, math.isqrt(elements)))
    width = min(N, max(1, elements // height))
    # A narrow result leaves room for more rows.
    return Blocks(height=min(M, max(1, elements // width)), width=width)


@dataclass(frozen=True, kw_only=True)
class StoredOperand:
    """An operand in the DRAM: its elements and their width."""

    elements: int
    bits: int

    def fetched_bytes(self, *, passes: int, kept: int, share_bytes: int) -> int:
        """Bytes that cross: once if `kept` elements fit the share of the SRAM, else in every pass."""
        fits = min(kept, self.elements) * self.bits <= 8 * share_bytes
        return (1 if fits else passes) * ceil_div(self.elements * self.bits, 8)


def operand_bytes(
    M: int, N: int, K: int, *, lhs: StoredOperand, rhs: StoredOperand, blocks: Blocks, share_bytes: int
) -> int:
    """Bytes of both operands that cross from the DRAM, in the better of the two orders of blocks.

    Args:
        M: Rows of the left operand.
        N: Columns of the right operand.
        K: Length of the reduction.
        lhs: The left operand.
        rhs: The right operand.
        blocks: Blocks of the result.
        share_bytes: SRAM that an operand may occupy.
    """

    def crossing(lhs_kept: int, rhs_kept: int) -> int:
        lhs_passes, rhs_passes = ceil_div(N, blocks.width), ceil_div(M, blocks.height)
        return lhs.fetched_bytes(
            passes=lhs_passes, kept=lhs_kept, share_bytes=share_bytes
        ) + rhs.fetched_bytes(passes=rhs_passes, kept=rhs_kept, share_bytes=share_bytes)

    return min(crossing(blocks.height * K, K * N), crossing(M * K, K * blocks.width))


def gemm_traffic(
    event: GemmEvent, schedule: Schedule, profile: HardwareProfile, *, lhs_bits: int, rhs_bits: int
) -> Traffic:
    """Traffic of all `event.count` GEMMs of an event.

    Args:
        event: The GEMM.
        schedule: Its schedule on the machine's array.
        profile: The machine.
        lhs_bits: Width in which the left operand is stored.
        rhs_bits: Width in which the right operand is stored.
    """
    if not schedule.folds:
        return Traffic()
    M, N, K, count, result_bits = event.M, event.N, event.K, event.count, event.outer_bits
    memory = profile.memory
    accesses = array_accesses(M, N, K, schedule, profile.array.dataflow)
    lhs_stored, rhs_stored = _stored_elements(event)
    fetched = operand_bytes(
        M,
        N,
        K,
        lhs=StoredOperand(elements=lhs_stored, bits=lhs_bits),
        rhs=StoredOperand(elements=rhs_stored, bits=rhs_bits),
        blocks=result_blocks(M, N, 8 * (memory.accumulator.capacity_bytes // 2) // result_bits),
        share_bytes=memory.sram.capacity_bytes // 4,
    )
    drained = ceil_div(M * N * result_bits, 8)
    return Traffic(
        sram_read_bits=count * (accesses.lhs_reads * lhs_bits + accesses.rhs_reads * rhs_bits),
        sram_write_bits=count * 8 * fetched,
        accumulator_read_bits=count * (accesses.partial_reads * result_bits + 8 * drained),
        accumulator_write_bits=count * accesses.result_writes * result_bits,
        dram_read_bytes=count * fetched,
        dram_write_bytes=count * drained,
    )


def vector_traffic(read_bytes: int, write_bytes: int) -> Traffic:
    """Traffic of vector work whose operands come from the DRAM through the SRAM and go back the same way."""
    moved = 8 * (read_bytes + write_bytes)
    return Traffic(
        sram_read_bits=moved, sram_write_bits=moved, dram_read_bytes=read_bytes, dram_write_bytes=write_bytes
    )


def vector_gemm_traffic(event: GemmEvent) -> Traffic:
    """Traffic of all `event.count` GEMMs of an event on the vector unit; nothing for a GEMM of size zero."""
    if not event.macs:
        return Traffic()
    element_bytes = event.count * VECTOR_ELEMENT_BITS // 8
    return vector_traffic(sum(_stored_elements(event)) * element_bytes, event.M * event.N * element_bytes)


def _stored_elements(event: GemmEvent) -> tuple[int, int]:
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
