"""What crosses into a stage, compiled: the twin of `crossing.crossing_elements`.

It goes in two steps. `set_kinds` depends on the tiles alone, `set_crossed` on the orders of the loops too.
"""

from __future__ import annotations

import math

import numba

from hw_models.mapping.kernel.elements import MISSING, OWN, once


@numba.njit
def tiles_of(size, outer, inner):
    """Tiles of a dimension in all, cut by the outer stage first."""
    many = size // outer
    return many * math.ceil(outer / inner) + math.ceil((size - many * outer) / inner)


@numba.njit
def set_kinds(gemm, holds, outer, inner, kinds, counts):
    """Prepare a stage, of whose operands `holds` [3] has the memories.

    Args:
        gemm: The problem.
        holds: Memories of the operands; -1 for one that passes by.
        outer: The tile of the stage outside.
        inner: The stage's own.
        kinds: [operands, 4, 3] to set to the elements of each kind of outer tile, and to the inner tiles along the
            operand's two dimensions there.
        counts: [operands, 3], of which to set the outer and the inner tiles of the missing dimension; the last one
            is the whole operand's elements.
    """
    for operand in range(3):
        if holds[operand] < 0:
            continue
        da, db, missing = OWN[operand, 0], OWN[operand, 1], MISSING[operand]
        many_a, many_b = gemm.sizes[da] // outer[da], gemm.sizes[db] // outer[db]
        rest_a, rest_b = gemm.sizes[da] - many_a * outer[da], gemm.sizes[db] - many_b * outer[db]
        for kind in range(4):
            part_a = outer[da] if kind < 2 else rest_a
            part_b = outer[db] if kind % 2 == 0 else rest_b
            many = (many_a if kind < 2 else 1.0) * (many_b if kind % 2 == 0 else 1.0)
            if part_a == 0.0 or part_b == 0.0:
                kinds[operand, kind, 0] = 0.0
                continue
            kinds[operand, kind, 0] = many * once(gemm, operand, part_a, part_b, inner[da], inner[db])
            kinds[operand, kind, 1] = math.ceil(part_a / inner[da])
            kinds[operand, kind, 2] = math.ceil(part_b / inner[db])
        counts[operand, 0] = math.ceil(gemm.sizes[missing] / outer[missing])
        counts[operand, 1] = tiles_of(gemm.sizes[missing], outer[missing], inner[missing])


@numba.njit
def _crossing(kinds, counts, asked_outside, a_inside, b_inside, least):
    """Elements of an operand, whose kinds and counts these are.

    `asked_outside` says whether an outer loop over several of its tiles runs inside the missing dimension's, a_inside
    and b_inside whether the inner loops over its dimensions do; `least` asks for a bound over all inner orders.
    """
    total = 0.0
    for kind in range(4):
        elements = kinds[kind, 0]
        if elements == 0.0:
            continue
        several_a, several_b = kinds[kind, 1] > 1.0, kinds[kind, 2] > 1.0
        if not several_a and not several_b:
            times = counts[0] if asked_outside else 1.0
        elif not least and ((several_a and a_inside) or (several_b and b_inside)):
            times = counts[1]
        else:
            times = counts[0]
        total += times * elements
    return max(total, counts[2])


@numba.njit
def set_crossed(gemm, holds, kinds, counts, asked_outside, places, least, crossed):
    """Set the bits of each operand that cross into a stage.

    Args:
        gemm: The problem.
        holds: Memories of the operands at the stage; -1 for one that passes by.
        kinds: From `set_kinds`.
        counts: From `set_kinds`.
        asked_outside: From `set_asked` for the stage outside.
        places: The place of each dimension's loop, 0 for the outermost.
        least: Whether to take the least over all orders in place of these.
        crossed: [3] to set.
    """
    for operand in range(3):
        if holds[operand] >= 0:
            own = places[MISSING[operand]]
            a_inside, b_inside = places[OWN[operand, 0]] > own, places[OWN[operand, 1]] > own
            asked = asked_outside[operand]
            elements = _crossing(kinds[operand], counts[operand], asked, a_inside, b_inside, least)
            crossed[operand] = elements * gemm.widths[operand]


@numba.njit
def set_asked(gemm, tile, places, asked):
    """Set for each operand whether a loop over several of its tiles runs inside the missing dimension's."""
    for operand in range(3):
        asked[operand] = False
        for own in range(2):
            d = OWN[operand, own]
            if places[d] > places[MISSING[operand]] and gemm.sizes[d] > tile[d]:
                asked[operand] = True
