"""The loops around `lanes_tile`: batches, panels, chunks and random bits. Importing this module imports numba.

A task copies a panel of b's columns, a piece of the reduction at a time, and takes it through all its rows; sums wait
in memory from one piece to the next. Operands and results are flat memories with strides, so that a transposed matrix
is read as it lies.
"""

# An intrinsic is called without its first parameter.
# pyright: reportCallIssue=false

from __future__ import annotations

import numba
import numpy as np
from numba import int32, int64

from lowbit_sim.arith.lanes_call import add_tile
from lowbit_sim.arith.lanes_draws import align_lanes, philox_lanes
from lowbit_sim.arith.lanes_pack import pack
from lowbit_sim.arith.lanes_plan import DRAWS_LOG
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: Products of a reduction in a panel, which then fits the first-level cache.
PIECE = 512


@numba.njit
def _draw(first, steps, tile, log, address, state):
    """The words that hold a block of draws of a tile's accumulators.

    Args:
        first: Element of the stream of the first accumulator's first draw.
        steps: Elements from one row to the next, and from one column to the next.
        tile: (rows, columns).
        log: Draws of a word, as a power of two.
        address: (seed, operand, step, site).
        state: words, old, new [4 n], blocks [n], skip, shift [n], and followed [1]: the block that the first
            accumulator's draws must start in for `old` to hold the blocks needed, or -1. n = rows x columns.
    """
    words, old, new, blocks, skip, shift, followed = state
    aligned = int64(0)
    for r in range(tile[0]):
        start = first + r * steps[0]
        for j in range(tile[1]):
            element = start + j * steps[1]
            place = element & ((4 << log) - 1)
            aligned |= place
            i = r * tile[1] + j
            blocks[i] = element >> (2 + log)
            skip[i] = int32(place >> log)
            shift[i] = int32((place & ((1 << log) - 1)) * (32 >> log))
    if aligned == 0:
        philox_lanes(blocks, address, words)
        return
    if followed[0] != blocks[0]:
        philox_lanes(blocks, address, old)
    for i in range(blocks.size):
        blocks[i] += 1
    philox_lanes(blocks, address, new)
    align_lanes(old, new, skip, shift, words)
    for i in range(old.size):
        old[i] = new[i]
    followed[0] = blocks[0]


@numba.njit
def _refill(drawn, wanted, place, tile, log, draws, state):
    """Draws a block for each accumulator of a tile at (matrix, row, column), if it is not the one drawn last."""
    if wanted != drawn:
        address = (draws[0], draws[1], draws[2], draws[3])
        first = draws[4] + place[0] * draws[5] + place[1] * draws[6] + place[2] * draws[7]
        if drawn < 0:
            state[6][0] = -1
        _draw(first + (wanted << (2 + log)), (draws[6], draws[7]), tile, log, address, state)
    return wanted


@numba.njit
def _scale(sums, at, tile, place, taken, width, passed, scales):
    """Multiply a chunk's sums with the product of their factors."""
    for r in range(taken):
        factor = scales[0][place[0], place[1] + r, passed]
        for j in range(width):
            both = np.float32(factor * scales[1][place[0], passed, place[2] + j])
            i = at + r * tile[1] + j
            sums[i] = np.float32(sums[i] * both)


@numba.njit
def _run_tile(where, span, left, panel, sums, unit, tile, state, counts):
    """Adds a piece of the reduction to a tile.

    Args:
        where: (matrix, row, column) of its first result, rows and columns that there are, where its sums lie.
        span: First product, past the last one, products of the whole reduction, where its counts lie.
        left: float32, flat, the place of the first row's first product, elements from row to row and product to
            product.
        panel: float32 [products, columns of the tile], flat.
        sums: Of the inner and of the outer accumulators, flat, and the number 1.
        unit: (products of a chunk, functions, parameters, rules, scales, draws) of `accumulate`.
        tile: (rows, columns).
        state: Of `_draw`.
        counts: Of `accumulate`.
    """
    place, taken, width, at = where
    low, high, reduction, counted = span
    memory, base, row_step, k_step = left
    inner, outer, ones = sums
    chunk, functions, parameters, rules, scales, draws = unit
    has_outer, scaled, random = rules
    words, last_row = state[0], taken - 1
    log = int64(parameters[0, DRAWS_LOG])
    drawn = int64(-1)
    k = low
    while k < high:
        passed = k // chunk
        end = min(high, (passed + 1) * chunk)
        number = int64(0)
        if random:
            # A block of draws at a time; the outer accumulator takes one for each chunk passed.
            count = k + (passed if has_outer else 0)
            number = count & ((4 << log) - 1)
            end = min(end, k + (4 << log) - number)
            drawn = _refill(drawn, count >> (2 + log), place, tile, log, draws, state)
        add_tile(
            functions[0],
            (inner, at),
            (memory, base, row_step, k_step, last_row),
            (panel, k - low, end - low),
            parameters[0],
            (words, number),
            (counts, counted),
        )
        k = end
        if has_outer and (k == reduction or k == (passed + 1) * chunk):
            if random:
                count = k + passed
                number = count & ((4 << log) - 1)
                drawn = _refill(drawn, count >> (2 + log), place, tile, log, draws, state)
            if scaled:
                _scale(inner, at, tile, place, taken, width, passed, scales)
            # The tile's sums in a row are the panel, and the number they are multiplied with is 1.
            add_tile(
                functions[1],
                (outer, at),
                (ones, 0, 0, 0, 0),
                (inner[at:], 0, 1),
                parameters[1],
                (words, number),
                (counts, counted),
            )
            for i in range(at, at + tile[0] * tile[1]):
                inner[i] = np.float32(0.0)


@numba.njit
def _state(n, words, places, numbers):
    """`_draw`'s state in a thread's memory."""
    return (
        words[: 4 * n],
        words[4 * n : 8 * n],
        words[8 * n : 12 * n],
        numbers[:n],
        places[:n],
        places[n : 2 * n],
        numbers[n : n + 1],
    )


@numba.njit
def _task(task, operands, sizes, strides, tile, unit, memory, out, counts):
    """Some rows of results, a panel wide."""
    left, right = operands
    rows_each, reduction, columns, slab = sizes
    tile_rows, panel_width = tile
    slabs = (rows_each + slab - 1) // slab
    panels = (columns + panel_width - 1) // panel_width
    g = task // (slabs * panels)
    top = task // panels % slabs * slab
    rows = min(slab, rows_each - top)
    first = task % panels * panel_width
    width = min(panel_width, columns - first)
    floats, words, places, numbers, ones = memory
    panel = floats[: PIECE * panel_width]
    inner = floats[PIECE * panel_width : (PIECE + slab) * panel_width]
    outer = floats[(PIECE + slab) * panel_width :]
    for i in range(floats.size):
        floats[i] = np.float32(0.0)
    state = _state(tile_rows * panel_width, words, places, numbers)
    for low in range(0, reduction, PIECE):
        high = min(low + PIECE, reduction)
        at = g * strides[3] + low * strides[4] + first * strides[5]
        pack(right, at, strides[4], strides[5], high - low, width, panel_width, panel)
        for row in range(0, rows, tile_rows):
            taken = min(tile_rows, rows - row)
            base = g * strides[0] + (top + row) * strides[1] + low * strides[2]
            _run_tile(
                ((g, top + row, first), taken, width, row * panel_width),
                (low, high, reduction, 2 * task),
                (left, base, strides[1], strides[2]),
                panel,
                (inner, outer, ones),
                unit,
                tile,
                state,
                counts,
            )
    result = outer if unit[3][0] else inner
    at = g * strides[6] + top * strides[7] + first * strides[8]
    for r in range(rows):
        for j in range(width):
            out[at + r * strides[7] + j * strides[8]] = result[r * panel_width + j]


@cached(parallel=True)
def accumulate(tasks, operands, sizes, strides, tile, unit, memory, out, counts):
    """left [G, M, K] times right [G, K, N].

    Args:
        tasks: G ceil(M / slab) ceil(N / columns of a tile).
        operands: left and right, float32, flat.
        sizes: (M, K, N, rows of a task).
        strides: Of left, right and out, three each.
        tile: (rows, columns).
        unit: The multiply-accumulate unit:
            * products of a chunk;
            * addresses of `lanes_call.function`: the inner accumulator's, and the outer one's, for a single row of
              all the tile's accumulators;
            * int32 [2, PARAMETERS] of both;
            * (has outer, chunks' sums are scaled, random);
            * scales, float32 [G, M, chunks] and [G, chunks, N];
            * (seed, operand, step, site, first element, elements from matrix to matrix, row to row, column to column)
              of the random bits.
        memory: What threads work in, [threads, ...] each: float32 for a panel and the sums of a task, one accumulator
            or two; uint32, int32 and int64 for random bits, 12, 2 and 1 for an accumulator of a tile and 1 more. And
            the float32 number 1.
        out: float32, flat, written.
        counts: int64 [2 tasks], overflows and swamped additions.
    """
    floats, words, places, numbers, ones = memory
    # A parallel loop takes no tuples of tuples.
    chunk, functions, parameters, rules, scales, draws = unit
    for task in numba.prange(tasks):
        thread = numba.get_thread_id()  # pyright: ignore[reportPrivateImportUsage]
        own = floats[thread], words[thread], places[thread], numbers[thread], ones
        each = chunk, functions, parameters, rules, scales, draws
        _task(task, operands, sizes, strides, tile, each, own, out, counts)
