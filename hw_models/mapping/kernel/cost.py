"""Cycles and energy of a mapping, compiled: the twin of `evaluation.evaluate`."""

from __future__ import annotations

import math

import numba

from hw_models.mapping.kernel.crossing import tiles_of


@numba.njit
def _fold_cycles(work, steps):
    return max(steps + work.fold_overhead, work.fold_minimum)


@numba.njit
def run_cycles(work, size, tile, step):
    """Cycles of a fold over a part of the time dimension that is cut into tiles of so many steps' elements."""
    whole = size // tile
    rest = size - whole * tile
    cycles = whole * _fold_cycles(work, math.ceil(tile / step))
    return cycles + (_fold_cycles(work, math.ceil(rest / step)) if rest > 0 else 0.0)


@numba.njit
def _fold_runs(gemm, outer, inner):
    """Tiles of the time dimension, and cycles of a fold over all of them."""
    d = gemm.work.time_dimension
    if d < 0:
        return 1.0, _fold_cycles(gemm.work, gemm.work.time)
    size, step = gemm.sizes[d], gemm.steps[d]
    many = size // outer[d]
    cycles = many * run_cycles(gemm.work, outer[d], inner[d], step)
    cycles += run_cycles(gemm.work, size - many * outer[d], inner[d], step)
    return tiles_of(size, outer[d], inner[d]), cycles


@numba.njit
def array_side(gemm, machine, outer, inner, base):
    """Set the bits that the array reads and writes at each memory, base [2, memories + 1].

    Returns:
        Its compute cycles.
    """
    work = gemm.work
    tiles, fold = _fold_runs(gemm, outer, inner)
    base[:] = 0.0
    for operand in range(2):
        again = tiles if work.stationary == operand else 1.0
        base[0, machine.innermost[operand]] += again * work.reads[operand] * gemm.widths[operand]
    split = (tiles - 1.0) * gemm.sizes[0] * gemm.sizes[1] if work.time_dimension == 2 else 0.0
    base[0, machine.innermost[2]] += (work.partial_reads + split) * gemm.widths[2]
    base[1, machine.innermost[2]] += (work.result_writes + split) * gemm.widths[2]
    if machine.innermost[2] == machine.levels:  # finished results leave the array for the memory outside
        base[1, machine.levels] -= gemm.saved
    return math.ceil(work.folds / work.arrays) * fold + work.startup_cycles


@numba.njit
def _move(gemm, machine, crossed, moved, waits):
    """Add the bits that cross between the stages to those of each memory; `waits` gets what does not overlap."""
    for stage in range(machine.stages):
        for operand in range(3):
            level, outer = machine.holds[stage, operand], machine.outwards[stage, operand]
            if level < 0:
                continue
            bits, back = crossed[stage, operand], 0.0
            if operand == 2:
                back = bits - gemm.sizes[0] * gemm.sizes[1] * gemm.widths[2]
                moved[0, level] += bits if level == machine.innermost[2] else bits - gemm.saved
                bits -= gemm.saved
                moved[1, level] += back
                moved[0, outer] += back
                moved[1, outer] += bits
            else:
                moved[1, level] += bits
                moved[0, outer] += bits
            if not machine.double_buffered[level]:
                waits[level, outer] += bits + back


@numba.njit
def _cycles_at(machine, memory, bits):
    return math.ceil(bits * machine.clocks[memory] / machine.bits[memory])


@numba.njit
def _waiting(gemm, machine, waits):
    """Cycles of the transfers that do not overlap; `waits` is emptied."""
    cycles = 0.0
    for level in range(machine.levels):
        if not machine.double_buffered[level]:
            for outer in range(machine.levels + 1):
                bits = gemm.work.count * waits[level, outer]
                waits[level, outer] = 0.0
                cycles += max(_cycles_at(machine, level, bits), _cycles_at(machine, outer, bits))
    return cycles


@numba.njit
def set_cost(gemm, machine, compute, base, room, cost):
    """Set the cost of what crosses, `room.crossed`, and of the array.

    Args:
        gemm: The problem.
        machine: The memories.
        compute: Cycles of the arrays.
        base: Bits that these read and write, from `array_side`.
        room: `inputs.room()`.
        cost: [3] to set to the cycles with what runs beside the GEMM, the energy in pJ, and the bits outside.
    """
    moved, count = room.moved, gemm.work.count
    moved[:] = base
    _move(gemm, machine, room.crossed, moved, room.waits)
    cycles, energy = max(compute + _waiting(gemm, machine, room.waits), gemm.beside_cycles), 0.0
    for memory in range(machine.levels + 1):
        bits = count * (moved[0, memory] + moved[1, memory])
        cycles = max(cycles, _cycles_at(machine, memory, bits + gemm.beside_bits[memory]))
        energy += moved[0, memory] * machine.read_pj[memory] + moved[1, memory] * machine.write_pj[memory]
        cost[2] = bits
    cost[0], cost[1] = cycles, count * energy + cycles * machine.static_pj_per_cycle


@numba.njit
def better(objective, cost, best):
    """Whether a mapping is better than the best one: by the objective, then by the others."""
    if objective == 2:
        product, best_product = cost[0] * cost[1], best[0] * best[1]
        if product != best_product:
            return product < best_product
    first = 1 if objective == 1 else 0
    if cost[first] != best[first]:
        return cost[first] < best[first]
    if cost[1 - first] != best[1 - first]:
        return cost[1 - first] < best[1 - first]
    return cost[2] < best[2]
