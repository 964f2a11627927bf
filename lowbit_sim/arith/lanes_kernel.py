"""The loops around `lanes_tile`: batches, panels, chunks and random bits. Importing this module imports numba.

A task copies `COLUMNS` columns of b into a panel, a piece of the reduction at a time, and takes the panel through all
its rows; sums wait in memory from one piece to the next.
"""

# An intrinsic is called without its first parameter.
# pyright: reportCallIssue=false

from __future__ import annotations

import numba
import numpy as np
from numba import int32, int64

from lowbit_sim.arith.lanes import COLUMNS
from lowbit_sim.arith.lanes_draws import align_lanes, philox_lanes
from lowbit_sim.arith.lanes_plan import DRAWS_LOG, RANDOMLY
from lowbit_sim.arith.lanes_tile import ROWS, add_tile
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: Products of a reduction in a panel, which then takes 256 KiB.
PIECE = 1024

_ONES = np.ones(ROWS, dtype=np.float32)


@numba.njit
def _draw(start, step, log, address, state):
    """The words that hold a block of draws of `COLUMNS` accumulators, from element start + j step of the stream on.

    Args:
        start: Element of the first accumulator's first draw.
        step: Elements from one accumulator to the next.
        log: Draws of a word, as a power of two.
        address: (seed, operand, step, site).
        state: words, old, new [4, COLUMNS], blocks [COLUMNS], skip, shift [COLUMNS], and followed [1]: the block that
            the first accumulator's draws must start in for `old` to hold the blocks needed, or -1.
    """
    words, old, new, blocks, skip, shift, followed = state
    aligned = int64(0)
    for j in range(COLUMNS):
        element = start + j * step
        blocks[j] = element >> (2 + log)
        place = element & ((4 << log) - 1)
        aligned |= place
        skip[j] = int32(place >> log)
        shift[j] = int32((place & ((1 << log) - 1)) * (32 >> log))
    if aligned == 0:
        philox_lanes(blocks, address, words)
        return
    if followed[0] != blocks[0]:
        philox_lanes(blocks, address, old)
    for j in range(COLUMNS):
        blocks[j] += 1
    philox_lanes(blocks, address, new)
    align_lanes(old, new, skip, shift, words)
    for i in range(4):
        for j in range(COLUMNS):
            old[i, j] = new[i, j]
    followed[0] = blocks[0]


@numba.njit
def _row_of_tiles(
    tile, inner, outer, panel, span, a, chunk, variants, parameters, rules, scales, draws, randoms, counts
):
    """A piece of the reduction for a tile: (matrix, first row, rows, first column, columns, row of its sums)."""
    g, row, taken, first, width, place = tile
    low, high, counted = span
    reduction = a.shape[2]
    has_outer, scaled = rules
    left_scales, right_scales = scales
    random = variants[0] >> 1 == RANDOMLY
    words, states = randoms
    log = int64(parameters[0, DRAWS_LOG])
    base = (g * a.shape[1] + row) * reduction + low
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
            drawn = _refill(drawn, count >> (2 + log), tile, log, draws, states)
        add_tile(
            variants[1] if taken == ROWS else variants[0],
            inner,
            place * COLUMNS,
            a,
            base,
            reduction,
            panel,
            k - low,
            end - low,
            parameters[0],
            words,
            number,
            counts,
            counted,
        )
        k = end
        if has_outer and (k == reduction or k == (passed + 1) * chunk):
            if random:
                count = k + passed
                number = count & ((4 << log) - 1)
                drawn = _refill(drawn, count >> (2 + log), tile, log, draws, states)
            for r in range(taken):
                if scaled:
                    scale = left_scales[g, row + r, passed]
                    for j in range(width):
                        both = np.float32(scale * right_scales[g, passed, first + j])
                        inner[place + r, j] = np.float32(inner[place + r, j] * both)
                # The chunk's sums are the panel, and the number they are multiplied with is 1.
                add_tile(
                    variants[2],
                    outer,
                    (place + r) * COLUMNS,
                    _ONES,
                    -place - r,
                    0,
                    inner,
                    place + r,
                    place + r + 1,
                    parameters[1],
                    states[r][0],
                    number,
                    counts,
                    counted,
                )
                for j in range(COLUMNS):
                    inner[place + r, j] = np.float32(0.0)


@numba.njit
def _refill(drawn, wanted, tile, log, draws, states):
    """Draws a block for each accumulator of a tile, if it is not the one drawn last."""
    if wanted != drawn:
        address = (draws[0], draws[1], draws[2], draws[3])
        for r in range(tile[2]):
            start = draws[4] + tile[0] * draws[5] + (tile[1] + r) * draws[6] + tile[3] * draws[7]
            if drawn < 0:
                states[r][6][0] = -1
            _draw(start + (wanted << (2 + log)), draws[7], log, address, states[r])
    return wanted


@numba.njit
def _state(words):
    block = np.empty((2, 4, COLUMNS), dtype=np.uint32)
    places = np.empty((2, COLUMNS), dtype=np.int32)
    return (
        words,
        block[0],
        block[1],
        np.empty(COLUMNS, dtype=np.int64),
        places[0],
        places[1],
        np.full(1, -1, dtype=np.int64),
    )


@numba.njit
def _task(task, a, b, chunk, variants, parameters, rules, scales, draws, slab, out, counts):
    """`slab` rows of results, `COLUMNS` wide."""
    height, reduction, columns = a.shape[1], a.shape[2], b.shape[2]
    slabs = (height + slab - 1) // slab
    panels = (columns + COLUMNS - 1) // COLUMNS
    g = task // (slabs * panels)
    top = task // panels % slabs * slab
    rows = min(slab, height - top)
    first = task % panels * COLUMNS
    width = min(COLUMNS, columns - first)
    piece = min(PIECE, reduction)
    panel = np.zeros((piece, COLUMNS), dtype=np.float32)
    inner = np.zeros((rows, COLUMNS), dtype=np.float32)
    outer = np.zeros((rows, COLUMNS), dtype=np.float32)
    words = np.empty((ROWS, 4, COLUMNS), dtype=np.uint32)
    states = (_state(words[0]), _state(words[1]), _state(words[2]), _state(words[3]))
    for low in range(0, reduction, piece):
        high = min(low + piece, reduction)
        for k in range(low, high):
            for j in range(width):
                panel[k - low, j] = b[g, k, first + j]
        row = 0
        while row < rows:
            taken = ROWS if row + ROWS <= rows and variants[1] >= 0 else 1
            tile = (g, top + row, taken, first, width, row)
            _row_of_tiles(
                tile,
                inner,
                outer,
                panel,
                (low, high, 2 * task),
                a,
                chunk,
                variants,
                parameters,
                rules,
                scales,
                draws,
                (words, states),
                counts,
            )
            row += taken
    result = outer if rules[0] else inner
    for r in range(rows):
        for j in range(width):
            out[g, top + r, first + j] = result[r, j]


@cached(parallel=True)
def accumulate(tasks, a, b, chunk, variants, parameters, rules, scales, draws, slab, out, counts):
    """a [G, M, K] times b [G, K, N].

    Args:
        tasks: G ceil(M / slab) ceil(N / COLUMNS).
        a: float32.
        b: float32.
        chunk: Products of a chunk.
        variants: Of `add_tile`: the inner accumulator's for one row and for `ROWS`, the outer one's for one row.
        parameters: int32 [2, PARAMETERS], of both.
        rules: (has outer, chunks' sums are scaled).
        scales: float32 [G, M, chunks] and [G, chunks, N].
        draws: (seed, operand, step, site, first element, elements from matrix to matrix, row to row, column to
            column).
        slab: Rows of a task.
        out: float32 [G, M, N], written.
        counts: int64 [tasks, 2], overflows and swamped additions.
    """
    for task in numba.prange(tasks):
        _task(task, a, b, chunk, variants, parameters, rules, scales, draws, slab, out, counts)
