"""Operands laid out for a tile of accumulators, and tiles laid out as a matrix. Importing this module imports numba.

A strided matrix comes as its flat memory with the steps from row to row and from column to column; a step of 1 is
written out as a loop of its own, which the compiler turns into vector instructions.
"""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.arith.backends.lanes import DEPTH, ROWS
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

# Rows that are written side by side where rows become columns: their cache lines must not push each other out.
_TRANSPOSED = 32


@numba.njit
def rows_up(rows):
    """Rows of whole tiles."""
    return (rows + ROWS - 1) // ROWS * ROWS


@numba.njit
def zeros_aligned(size, dtype):
    """`size` zeros that begin at a register's boundary."""
    room = np.zeros(size + 64, dtype)
    skip = (-room.ctypes.data) % 64 // room.itemsize
    return room[skip : skip + size]


@numba.njit
def _doubled(code, shift):
    """Two copies of a 16-bit code."""
    value = np.int32(code) << np.int32(shift)
    return np.int32(value & np.int32(0xFFFF)) | np.int32(value << np.int32(16))


@numba.njit
def pack_rows(codes, first, down, along, rows, steps, shift, doubled, packed):
    """`rows` rows of A times 2^shift as [rows, DEPTH]; of 16-bit lanes two copies of each code.

    Args:
        codes: A's memory.
        first: Where the block begins in it.
        down: Step from row to row.
        along: Step from k to k.
        rows: Rows.
        steps: Steps of k, at most DEPTH.
        shift: Bits to shift a code by.
        doubled: Whether lanes have 16 bits.
        packed: Where the codes go; what lies outside stays.
    """
    code = packed.dtype.type
    if along == 1:
        for i in range(rows):
            row = codes[first + i * down : first + i * down + steps]
            to = packed[i * DEPTH : i * DEPTH + steps]
            if doubled:
                for k in range(steps):
                    to[k] = _doubled(row[k], shift)
            else:
                for k in range(steps):
                    to[k] = code(row[k]) << code(shift)
        return
    for start in range(0, rows, _TRANSPOSED):
        for k in range(steps):
            at = first + k * along
            for i in range(start, min(start + _TRANSPOSED, rows)):
                x = codes[at + i * down]
                packed[i * DEPTH + k] = _doubled(x, shift) if doubled else code(x) << code(shift)


@numba.njit
def pack_columns(codes, first, down, along, steps, columns, width, packed):
    """A panel of B as [steps, width], columns beyond the matrix zero.

    Args:
        codes: B's memory.
        first: Where the panel begins in it.
        down: Step from k to k.
        along: Step from column to column.
        steps: Steps of k.
        columns: Columns of the panel that the matrix has.
        width: Columns of the panel.
        packed: Where the codes go.
    """
    lane = packed.dtype.type
    if columns < width:
        packed[: steps * width] = 0
    if along == 1:
        for k in range(steps):
            row = codes[first + k * down : first + k * down + columns]
            to = packed[k * width : k * width + columns]
            for j in range(columns):
                to[j] = lane(row[j])
        return
    for start in range(0, steps, _TRANSPOSED):
        for j in range(columns):
            at = first + j * along
            for k in range(start, min(start + _TRANSPOSED, steps)):
                packed[k * width + j] = lane(codes[at + k * down])


@numba.njit
def unpack(tiles, first, down, along, rows, columns, padded, width, out):
    """A block of results from its tiles, [panels, padded, width], into the result matrix.

    Args:
        tiles: The tiles' accumulators.
        first: Where the block begins in `out`.
        down: Step from row to row there.
        along: Step from column to column there.
        rows: Rows of the block that the matrix has.
        columns: Columns of the block that the matrix has.
        padded: Rows of a panel.
        width: Columns of a panel.
        out: The result's memory.
    """
    for start in range(0, columns, width):
        inside = min(width, columns - start)
        for i in range(rows):
            at = start * padded + i * width
            tile = tiles[at : at + inside]
            to = first + i * down + start * along
            if along == 1:
                row = out[to : to + inside]
                for j in range(inside):
                    row[j] = tile[j]
            else:
                for j in range(inside):
                    out[to + j * along] = tile[j]
