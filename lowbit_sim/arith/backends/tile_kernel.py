"""The compiled loops around a tile of accumulators. Importing this module imports numba.

A task is a block of rows and columns of the result. For each DEPTH of k it packs the rows of A, then for one panel of
columns after the other packs B (which then lies in the first-level cache) and runs down the tiles of the panel. The
tiles' accumulators wait in the second-level cache in between; where a chunk ends they move on to the outer ones.
Ragged edges are padded with zeros, and a product of zero changes no accumulator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np

from lowbit_sim.arith.backends.lanes import DEPTH, ROWS, columns_of_tile
from lowbit_sim.arith.backends.tile_ir import finish, tile
from lowbit_sim.arith.backends.tile_pack import pack_columns, pack_rows, rows_up, unpack, zeros_aligned
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: Columns of a task, of the rows that it packs once: a multiple of every tile's columns.
TASK_COLUMNS = 256


@functools.cache
def tiled(lane: int, outer_lane: int, element: str) -> Callable[..., None]:
    """The kernel of one kind of lane and operand, for every overflow rule.

    It closes over plain values only: numba's cache on disk finds an entry by the closure's contents, and a
    compiled function among them would differ in each process.

    Args:
        lane: Bits of an inner accumulator's lane: 16, 32 or 64.
        outer_lane: Bits of an outer accumulator's lane: 32 or 64.
        element: dtype of the operands: "int8" or "int32".

    Returns:
        `kernel(a, b, sizes, strides, inner_rule, outer_rule, out, counts)`: flat memories of a [batch, M, K],
        b [batch, K, N] and out [batch, M, N]; sizes (batch, M, K, N, chunk, rows of a task, shift of A's codes); the
        strides of a, b and out; (low, high, fold, mode) of both accumulators; an overflow count for each task.
    """
    width, doubled = columns_of_tile(lane), lane == 16
    code_type, lane_type = np.dtype(f"int{max(lane, 32)}"), np.dtype(f"int{lane}")
    outer_type = np.dtype(f"int{outer_lane}")
    vector = "int64[::1]"
    signature = (
        f"void({element}[::1], {element}[::1], {vector}, {vector}, {vector}, {vector}, "
        f"{outer_type}[::1], {vector})"
    )

    @cached(signature=signature, parallel=True)
    def kernel(a, b, sizes, strides, inner_rule, outer_rule, out, counts):
        batch, rows, reduction, columns = sizes[0], sizes[1], sizes[2], sizes[3]
        chunk, task_rows, shift = sizes[4], sizes[5], sizes[6]
        tasks_each = counts.size // batch
        tasks_across = (columns + TASK_COLUMNS - 1) // TASK_COLUMNS
        for task in numba.prange(counts.size):
            matrix = task // tasks_each
            first_row = task % tasks_each // tasks_across * task_rows
            first_column = task % tasks_across * TASK_COLUMNS
            own_rows = min(task_rows, rows - first_row)
            own_columns = min(TASK_COLUMNS, columns - first_column)
            padded, panels = rows_up(own_rows), (own_columns + width - 1) // width
            rows_of_a = zeros_aligned(padded * DEPTH, code_type)
            panel_of_b = zeros_aligned(DEPTH * width, lane_type)
            inner = zeros_aligned(panels * padded * width, lane_type)
            outer = zeros_aligned(panels * padded * width, outer_type)
            overflows = 0
            for first_k in range(0, reduction, DEPTH):
                steps = min(DEPTH, reduction - first_k)
                at = matrix * strides[0] + first_row * strides[1] + first_k * strides[2]
                pack_rows(a, at, strides[1], strides[2], own_rows, steps, shift, doubled, rows_of_a)
                for panel in range(panels):
                    start = panel * width
                    at = matrix * strides[3] + first_k * strides[4] + (first_column + start) * strides[5]
                    inside = min(width, own_columns - start)
                    pack_columns(b, at, strides[4], strides[5], steps, inside, width, panel_of_b)
                    for i in range(0, padded, ROWS):
                        at = (panel * padded + i) * width
                        inner_tile = inner.ctypes.data + at * inner.itemsize
                        outer_tile = outer.ctypes.data + at * outer.itemsize
                        done = 0
                        while done < steps:
                            rest = chunk - (first_k + done) % chunk
                            part = min(rest, steps - done)
                            overflows += tile(  # pyright: ignore[reportCallIssue]
                                lane,
                                inner_rule[3],
                                rows_of_a.ctypes.data + (i * DEPTH + done) * rows_of_a.itemsize,
                                panel_of_b.ctypes.data + done * width * panel_of_b.itemsize,
                                inner_tile,
                                part,
                                inner_rule[0],
                                inner_rule[1],
                                inner_rule[2],
                            )
                            done += part
                            if part == rest or first_k + done == reduction:
                                overflows += finish(
                                    lane,
                                    outer_lane,
                                    outer_rule[3],
                                    inner_tile,
                                    outer_tile,
                                    shift,
                                    outer_rule[0],
                                    outer_rule[1],
                                    outer_rule[2],
                                )
            at = matrix * strides[6] + first_row * strides[7] + first_column * strides[8]
            unpack(outer, at, strides[7], strides[8], own_rows, own_columns, padded, width, out)
            counts[task] = overflows

    return kernel
