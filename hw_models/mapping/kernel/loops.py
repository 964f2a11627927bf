"""The compiled search: the twin of `evaluation.evaluate` over all candidates, in float64.

Whole numbers up to 2^53 are exact in float64, so it decides as the definition does where no count of bits exceeds
that; beyond, two mappings that differ by less than a part in 10^15 may change places. The figures of the mapping
that it chooses are always those of the definition.

Tiles are left out with all that lies inside them when not even the least that they can cost is better than the best
mapping so far: an operand crosses a stage once for each outer tile of the dimension that it lacks, or once in all.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from hw_models.mapping.kernel.cost import array_side, better, set_cost
from hw_models.mapping.kernel.crossing import set_asked, set_crossed, set_kinds
from hw_models.mapping.kernel.elements import MISSING, OWN, elements, plain
from hw_models.mapping.kernel.reductions import beside_dimension, reductions, set_better


@numba.njit
def _prepare(gemm, machine, room):
    """Set what stays as it is for all mappings; returns the cycles of the arrays for a single tile."""
    room.whole[:] = gemm.sizes
    room.best[:] = np.inf
    for operand in range(3):
        a, b = gemm.sizes[OWN[operand, 0]], gemm.sizes[OWN[operand, 1]]
        room.counts[:, operand, 2] = elements(gemm, operand, a, b)
    return array_side(gemm, machine, room.whole, room.whole, room.untiled)


@numba.njit
def _set_tile(tile, tiles, m, n, k):
    tile[0], tile[1], tile[2] = tiles.m[m], tiles.n[n], tiles.k[k]


@numba.njit
def _asks_as_before(asked, order):
    """Whether an earlier order asks for the same operands again."""
    for before in range(order):
        if (
            asked[before, 0] == asked[order, 0]
            and asked[before, 1] == asked[order, 1]
            and asked[before, 2] == asked[order, 2]
        ):
            return True
    return False


@numba.njit
def _may_be_better(gemm, machine, untiled, asked, objective, room):
    """Whether some mapping inside the outer tile may be better than the best one so far.

    What crosses into the outer stage is set; into the inner one, `asked` operands do so for each outer tile that they
    do not depend on, and the others once.
    """
    for operand in range(3):
        if machine.holds[0, operand] >= 0:
            again = asked[operand] and plain(gemm, operand)
            d = MISSING[operand]
            times = math.ceil(gemm.sizes[d] / room.outer[d]) if again else 1.0
            room.crossed[0, operand] = times * room.counts[0, operand, 2] * gemm.widths[operand]
    set_cost(gemm, machine, untiled, room.untiled, room, room.least)
    return better(objective, room.least, room.best)


@numba.njit
def _try_orders(gemm, machine, places, outer_order, compute, objective, room):
    """Cost the inner tile, whose kinds are set, in every order, and keep the best."""
    kinds, counts, asked = room.kinds[0], room.counts[0], room.asked[outer_order]
    for order in range(places.shape[0]):
        set_crossed(gemm, machine.holds[0], kinds, counts, asked, places[order], False, room.crossed[0])
        set_cost(gemm, machine, compute, room.base, room, room.cost)
        if better(objective, room.cost, room.best):
            room.best[:] = room.cost
            room.best_tiles[0], room.best_tiles[1] = room.inner, room.outer
            room.best_orders[0], room.best_orders[1] = order, outer_order


@numba.njit
def _try_inner_tile(gemm, machine, places, outer_order, objective, bound, room):
    """Cost the inner tile unless no order of it can be better than the best mapping so far."""
    compute = array_side(gemm, machine, room.outer, room.inner, room.base)
    if bound and objective == 0 and compute > room.best[0]:
        return
    kinds, counts, holds = room.kinds[0], room.counts[0], machine.holds[0]
    set_kinds(gemm, holds, room.outer, room.inner, kinds, counts)
    if bound:
        set_crossed(gemm, holds, kinds, counts, room.asked[outer_order], places[0], True, room.crossed[0])
        set_cost(gemm, machine, compute, room.base, room, room.least)
        if not better(objective, room.least, room.best):
            return
    _try_orders(gemm, machine, places, outer_order, compute, objective, room)


@numba.njit
def _try_inner_tiles(gemm, machine, tiles, known, places, outer, outer_order, objective, bound, room):
    """Cost all tiles inside an outer one, `outer` its place among the candidates; returns how many."""
    looked, d = 0, beside_dimension(gemm)
    for m in range(outer[0], -1, -1):
        for n in range(outer[1], -1, -1):
            top = min(known.inner[m, n], outer[2])
            row = m if d == 0 else n if d == 1 else 0
            for k in range(top, -1, -1):
                if bound and known.better[row, k] <= top:
                    continue
                _set_tile(room.inner, tiles, m, n, k)
                _try_inner_tile(gemm, machine, places, outer_order, objective, bound, room)
                looked += 1
    return looked


@numba.njit
def _try_outer_orders(gemm, machine, tiles, known, places, outer, untiled, objective, bound, room):
    """Cost an outer tile, whose kinds are set, in every order that asks for other operands; returns how many."""
    looked, prepared = 0, False
    kinds, counts, nothing_asked = room.kinds[1], room.counts[1], room.asked[places.shape[0]]
    for order in range(places.shape[0]):
        asked, crossed = room.asked[order], room.crossed[1]
        set_asked(gemm, room.outer, places[order], asked)
        if _asks_as_before(room.asked, order):
            continue
        set_crossed(gemm, machine.holds[1], kinds, counts, nothing_asked, places[order], False, crossed)
        if bound and not _may_be_better(gemm, machine, untiled, asked, objective, room):
            looked += 1
            continue
        if not prepared:
            set_better(gemm, tiles, room.outer, room.inner, known)
            prepared = True
        looked += _try_inner_tiles(gemm, machine, tiles, known, places, outer, order, objective, bound, room)
    return looked


@numba.njit
def _try_outer_tile(gemm, machine, tiles, known, places, outer, untiled, objective, bound, room):
    """Cost an outer tile, `outer` its place among the candidates, with all inside it; returns how many."""
    _set_tile(room.outer, tiles, outer[0], outer[1], outer[2])
    set_kinds(gemm, machine.holds[1], room.whole, room.outer, room.kinds[1], room.counts[1])
    if bound:
        nothing_asked, crossed = room.asked[places.shape[0]], room.crossed[1]
        set_crossed(
            gemm, machine.holds[1], room.kinds[1], room.counts[1], nothing_asked, places[0], True, crossed
        )
        if not _may_be_better(gemm, machine, untiled, nothing_asked, objective, room):
            return 1
    return _try_outer_orders(gemm, machine, tiles, known, places, outer, untiled, objective, bound, room)


@numba.njit
def _try_outer_tiles(gemm, machine, tiles, known, places, untiled, objective, bound, room):
    """Cost all pairs of tiles; returns how many."""
    looked = 0
    # The largest reductions first: the best mapping is mostly among them, and then bounds the others.
    for smaller in range(tiles.k.shape[0]):
        for m in range(tiles.m.shape[0] - 1, -1, -1):
            for n in range(tiles.n.shape[0] - 1, -1, -1):
                k = known.outer[m, n] - smaller
                if k >= 0:
                    looked += _try_outer_tile(
                        gemm, machine, tiles, known, places, (m, n, k), untiled, objective, bound, room
                    )
    return looked


@numba.njit
def search(gemm, machine, tiles, places, objective, bound, room):
    """The best mapping: sets `room.best`, `best_tiles` and `best_orders`.

    Where there is one stage, the second one's tile is the whole GEMM.

    Args:
        gemm: `inputs.gemm_numbers`.
        machine: `inputs.machine_numbers`.
        tiles: `inputs.Candidates`.
        places: `inputs.PLACES`.
        objective: 0 cycles together with what runs beside the GEMM, 1 energy, 2 their product.
        bound: Whether to leave out what can't be better.
        room: `inputs.room()`.

    Returns:
        How many pairs of tiles and outer orders were looked at; 0 where none fits.
    """
    untiled = _prepare(gemm, machine, room)
    known = reductions(gemm, machine, tiles)
    if machine.stages == 2:
        return _try_outer_tiles(gemm, machine, tiles, known, places, untiled, objective, bound, room)
    room.outer[:] = room.whole
    set_better(gemm, tiles, room.outer, room.inner, known)
    whole = (tiles.m.shape[0] - 1, tiles.n.shape[0] - 1, tiles.k.shape[0] - 1)
    return _try_inner_tiles(gemm, machine, tiles, known, places, whole, 0, objective, bound, room)
