"""The compiled search: the twin of `traffic.evaluate` over all candidates, in float64.

Whole numbers up to 2^53 are exact in float64, so it decides as the definition does where no count of bits exceeds
that; beyond, two mappings that differ by less than a part in 10^15 may change places. The figures of the mapping
that it chooses are always those of the definition. Importing this module imports numba.

Tiles are left out with all that lies inside them when not even the least that they can cost is better than the best
mapping so far: an operand crosses a stage once for each outer tile of the dimension that it lacks, or once in all.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: The dimension (of M, N, K) that lhs, rhs and result do not have, and the two that they have.
_MISSING = np.array([1, 0, 2])
_OWN = np.array([[0, 2], [2, 1], [0, 1]])


@numba.njit(cache=True)
def _extent(region, axis, windows):
    step = min(region[7 + axis], region[5 + axis])
    covered = (windows - 1.0) * step + region[5 + axis]
    return min(region[3 + axis], math.ceil(covered / region[9 + axis]))


@numba.njit(cache=True)
def _region_elements(region, pixels, columns):
    height, width = region[1], region[2]
    channels = math.ceil(columns / region[11])
    if pixels >= height * width:
        images = math.ceil(pixels / (height * width))
        area = images * _extent(region, 0, height) * _extent(region, 1, width)
    elif pixels >= width:
        area = _extent(region, 0, math.ceil(pixels / width)) * _extent(region, 1, width)
    else:
        area = _extent(region, 0, 1.0) * _extent(region, 1, pixels)
    return min(channels * area, pixels * columns)


@numba.njit(cache=True)
def _elements(gemm, region, operand, a, b):
    """Elements of a tile of a x b of an operand's own dimensions."""
    if region[0] == operand:
        return _region_elements(region, a, b)
    if gemm[6] == operand:
        step_a, step_b = gemm[7 + _OWN[operand, 0]], gemm[7 + _OWN[operand, 1]]
        return math.ceil(a / step_a) * step_a * math.ceil(b / step_b) * step_b
    return a * b


@numba.njit(cache=True)
def _plain(gemm, region, operand):
    """Whether the tiles of an operand are together its matrix."""
    return region[0] != operand and gemm[6] != operand


@numba.njit(cache=True)
def _once(gemm, region, operand, around_a, around_b, a, b):
    """Elements of all tiles of an operand inside a part of it."""
    if _plain(gemm, region, operand):
        return around_a * around_b
    many_a, many_b = around_a // a, around_b // b
    rest_a, rest_b = around_a - many_a * a, around_b - many_b * b
    total = many_a * many_b * _elements(gemm, region, operand, a, b)
    if rest_a > 0:
        total += many_b * _elements(gemm, region, operand, rest_a, b)
    if rest_b > 0:
        total += many_a * _elements(gemm, region, operand, a, rest_b)
    if rest_a > 0 and rest_b > 0:
        total += _elements(gemm, region, operand, rest_a, rest_b)
    return total


@numba.njit(cache=True)
def _fits(gemm, region, tile, holds, stage, capacity):
    """Whether every memory of a stage holds its tiles; holds[stage, operand] is a memory or -1."""
    for level in range(capacity.shape[0]):
        used = 0.0
        for operand in range(3):
            if holds[stage, operand] == level:
                a, b = tile[_OWN[operand, 0]], tile[_OWN[operand, 1]]
                used += _elements(gemm, region, operand, a, b) * gemm[3 + operand]
        if used > capacity[level]:
            return False
    return True


@numba.njit(cache=True)
def _tiles(size, outer, inner):
    """Tiles of a dimension in all, cut by the outer stage first."""
    many = size // outer
    return many * math.ceil(outer / inner) + math.ceil((size - many * outer) / inner)


@numba.njit(cache=True)
def _set_kinds(gemm, region, holds, stage, outer, inner, kinds, counts):
    """Prepare a stage: kinds [operand, 4, 3] are elements and inner tiles along the operand's dimensions of each
    kind of outer tile; counts [operand, 3] the outer and inner tiles of the missing dimension, and the whole operand.
    """
    for operand in range(3):
        if holds[stage, operand] < 0:
            continue
        da, db, missing = _OWN[operand, 0], _OWN[operand, 1], _MISSING[operand]
        many_a, many_b = gemm[da] // outer[da], gemm[db] // outer[db]
        rest_a, rest_b = gemm[da] - many_a * outer[da], gemm[db] - many_b * outer[db]
        for kind in range(4):
            part_a = outer[da] if kind < 2 else rest_a
            part_b = outer[db] if kind % 2 == 0 else rest_b
            many = (many_a if kind < 2 else 1.0) * (many_b if kind % 2 == 0 else 1.0)
            if part_a == 0.0 or part_b == 0.0:
                kinds[operand, kind, 0] = 0.0
                continue
            kinds[operand, kind, 0] = many * _once(
                gemm, region, operand, part_a, part_b, inner[da], inner[db]
            )
            kinds[operand, kind, 1] = math.ceil(part_a / inner[da])
            kinds[operand, kind, 2] = math.ceil(part_b / inner[db])
        counts[operand, 0] = math.ceil(gemm[missing] / outer[missing])
        counts[operand, 1] = _tiles(gemm[missing], outer[missing], inner[missing])


@numba.njit(cache=True)
def _crossing(kinds, counts, operand, outer_asked, a_inside, b_inside, least):
    """Elements of an operand that cross into a stage; `least` for a bound over all inner orders.

    `outer_asked` says whether an outer loop over several of its tiles runs inside the missing dimension's, a_inside
    and b_inside whether the inner loops over its dimensions do.
    """
    total = 0.0
    for kind in range(4):
        once = kinds[operand, kind, 0]
        if once == 0.0:
            continue
        several_a, several_b = kinds[operand, kind, 1] > 1.0, kinds[operand, kind, 2] > 1.0
        if not several_a and not several_b:
            times = counts[operand, 0] if outer_asked else 1.0
        elif not least and ((several_a and a_inside) or (several_b and b_inside)):
            times = counts[operand, 1]
        else:
            times = counts[operand, 0]
        total += times * once
    return max(total, counts[operand, 2])


@numba.njit(cache=True)
def _set_crossed(gemm, holds, stage, kinds, counts, asked, at, least, crossed):
    """Set the bits of each operand that cross into a stage; at[d] is the place of a loop, 0 for the outermost."""
    for operand in range(3):
        if holds[stage, operand] >= 0:
            own = at[_MISSING[operand]]
            a_inside, b_inside = at[_OWN[operand, 0]] > own, at[_OWN[operand, 1]] > own
            elements = _crossing(kinds, counts, operand, asked[operand], a_inside, b_inside, least)
            crossed[stage, operand] = elements * gemm[3 + operand]


@numba.njit(cache=True)
def _set_asked(gemm, tile, order, asked):
    """Set for each operand whether a loop over several of its tiles runs inside the missing dimension's."""
    for operand in range(3):
        asked[operand] = False
        for position in range(2, -1, -1):
            d = order[position]
            if d == _MISSING[operand]:
                break
            if gemm[d] > tile[d]:
                asked[operand] = True


@numba.njit(cache=True)
def _outwards(holds, stage, operand, outside):
    """The next memory beyond a stage that holds an operand; beyond stage -1, the innermost one."""
    for s in range(stage + 1, holds.shape[0]):
        if holds[s, operand] >= 0:
            return holds[s, operand]
    return outside


@numba.njit(cache=True)
def _fold_cycles(work, steps):
    return max(steps + work[3], work[4])


@numba.njit(cache=True)
def _run_cycles(work, size, tile, step):
    """Cycles of the folds over a part of the time dimension that is cut into tiles."""
    whole = size // tile
    rest = size - whole * tile
    cycles = whole * _fold_cycles(work, math.ceil(tile / step))
    return cycles + (_fold_cycles(work, math.ceil(rest / step)) if rest > 0 else 0.0)


@numba.njit(cache=True)
def _array_side(gemm, work, holds, outer, inner, outside, base):
    """Set the bits that the array reads and writes at each memory, base [2, memories]; returns its compute cycles."""
    base[:] = 0.0
    d = int(work[10])
    tiles, fold = 1.0, _fold_cycles(work, work[2])
    if d >= 0:
        step, many = gemm[7 + d], gemm[d] // outer[d]
        rest = gemm[d] - many * outer[d]
        tiles = _tiles(gemm[d], outer[d], inner[d])
        fold = many * _run_cycles(work, outer[d], inner[d], step) + _run_cycles(work, rest, inner[d], step)
    for operand in range(2):
        again = tiles if work[11] == operand else 1.0
        base[0, _outwards(holds, -1, operand, outside)] += again * work[5 + operand] * gemm[3 + operand]
    split = (tiles - 1.0) * gemm[0] * gemm[1] if d == 2 else 0.0
    at = _outwards(holds, -1, 2, outside)
    base[0, at] += (work[8] + split) * gemm[5]
    base[1, at] += (work[7] + split) * gemm[5]
    return math.ceil(work[0] * work[1] / work[9]) * fold + work[12]


@numba.njit(cache=True)
def _set_cost(gemm, work, compute, crossed, holds, levels, dram, base, moved, waits, cost):
    """Set cost to cycles, energy in pJ and bits outside; `moved` [2, memories] is room for each memory's bits."""
    outside, count = levels.shape[0], work[0]
    waiting = 0.0
    moved[:] = base
    for stage in range(holds.shape[0]):
        for operand in range(3):
            level = holds[stage, operand]
            if level < 0:
                continue
            outer = _outwards(holds, stage, operand, outside)
            bits = crossed[stage, operand]
            if operand == 2:
                back = bits - gemm[0] * gemm[1] * gemm[5]
                moved[0, level] += bits
                moved[1, level] += back
                moved[0, outer] += back
                moved[1, outer] += bits
                bits += back
            else:
                moved[1, level] += bits
                moved[0, outer] += bits
            if levels[level, 3] == 0.0:
                waits[level, outer] += bits
    for level in range(outside):
        if levels[level, 3] == 0.0:
            for outer in range(outside + 1):
                bits = count * waits[level, outer]
                waits[level, outer] = 0.0
                if bits > 0.0:
                    here = bits * dram[1] / dram[0] if outer == outside else bits / levels[outer, 0]
                    waiting += max(math.ceil(bits / levels[level, 0]), math.ceil(here))
    cycles, energy = compute + waiting, 0.0
    for level in range(outside):
        cycles = max(cycles, math.ceil(count * (moved[0, level] + moved[1, level]) / levels[level, 0]))
        energy += moved[0, level] * levels[level, 1] + moved[1, level] * levels[level, 2]
    bits = count * (moved[0, outside] + moved[1, outside])
    cycles = max(cycles, math.ceil(bits * dram[1] / dram[0]))
    energy += moved[0, outside] * dram[2] + moved[1, outside] * dram[3]
    cost[0], cost[1], cost[2] = cycles, count * energy + cycles * dram[4], bits


@numba.njit(cache=True)
def _better(objective, cost, best):
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


@numba.njit(cache=True)
def _largest_reductions(gemm, region, holds, stage, capacity, m_sizes, n_sizes, k_sizes):
    """The index of the largest k that fits a stage beside each m and n, or -1."""
    largest = np.empty((m_sizes.shape[0], n_sizes.shape[0]), dtype=np.int64)
    tile = np.empty(3)
    for i in range(m_sizes.shape[0]):
        for j in range(n_sizes.shape[0]):
            tile[0], tile[1] = m_sizes[i], n_sizes[j]
            # What does not fit beside a narrower tile does not fit beside this one.
            at = k_sizes.shape[0] - 1 if j == 0 else largest[i, j - 1]
            while at >= 0:
                tile[2] = k_sizes[at]
                if _fits(gemm, region, tile, holds, stage, capacity):
                    break
                at -= 1
            largest[i, j] = at
    return largest


@numba.njit(cache=True)
def search(
    gemm, work, region, holds, levels, dram, capacity, orders, objective, m_sizes, n_sizes, k_sizes, bound
):
    """The best mapping.

    Args:
        gemm: M, N, K; widths of lhs, rhs, result; the padded operand or -1; steps of M, N, K.
        work: The array's work, see `search._work_numbers`.
        region: The tensor behind an unfolded operand, see `search._region_numbers`.
        holds: [stages, 3] memory that holds an operand at a stage, or -1.
        levels: [memories, 4] bits a cycle, pJ of a read and of a written bit, whether double buffered.
        dram: Bits a second, clock, pJ of a read and of a written bit, static pJ a cycle.
        capacity: [memories] bits for tiles.
        orders: [orders, 3] dimensions, outermost first.
        objective: 0 cycles, 1 energy, 2 their product.
        m_sizes: Candidates of M, ascending.
        n_sizes: Candidates of N.
        k_sizes: Candidates of K.
        bound: Whether to leave out what can't be better.

    Returns:
        Its tiles [2, 3] from the array outwards (the second is the whole GEMM where there is one stage), its orders
        [2] as rows of `orders`, and how many pairs of tiles and outer orders were looked at; 0 where none fits.
    """
    stages, outside = holds.shape[0], levels.shape[0]
    best, cost, least = np.full(3, np.inf), np.zeros(3), np.zeros(3)
    best_tiles, tiles = np.zeros((2, 3)), np.zeros((2, 3))
    best_orders = np.zeros(2, dtype=np.int64)
    kinds, counts = np.zeros((2, 3, 4, 3)), np.zeros((2, 3, 3))
    crossed, asked = np.zeros((2, 3)), np.zeros((6, 3), dtype=np.bool_)
    nothing_asked = np.zeros(3, dtype=np.bool_)
    base, moved = np.zeros((2, outside + 1)), np.zeros((2, outside + 1))
    waits = np.zeros((outside, outside + 1))
    kinds_0, kinds_1, counts_0, counts_1 = kinds[0], kinds[1], counts[0], counts[1]
    places = np.empty((orders.shape[0], 3), dtype=np.int64)
    for o in range(orders.shape[0]):
        for place in range(3):
            places[o, orders[o, place]] = place
    whole = gemm[:3].copy()
    inner_k = _largest_reductions(gemm, region, holds, 0, capacity, m_sizes, n_sizes, k_sizes)
    outer_k = np.full_like(inner_k, -1)
    outer_k[-1, -1] = k_sizes.shape[0] - 1
    if stages == 2:
        outer_k = _largest_reductions(gemm, region, holds, 1, capacity, m_sizes, n_sizes, k_sizes)
    outer_orders = orders.shape[0] if stages == 2 else 1
    untiled = _array_side(gemm, work, holds, whole, whole, outside, base)
    for operand in range(3):
        a, b = gemm[_OWN[operand, 0]], gemm[_OWN[operand, 1]]
        counts[:, operand, 2] = _elements(gemm, region, operand, a, b)
    looked = 0
    # A tensor's tiles may cover less of it in all where they are smaller, see `search`.
    every_k = stages == 1 and region[0] >= 0.0
    inner, outer = tiles[0], tiles[1]
    # The largest reductions first: the best mapping is mostly among them, and then bounds the others.
    for smaller in range(k_sizes.shape[0] if stages == 2 else 1):
        for m1 in range(m_sizes.shape[0] - 1, -1, -1):
            for n1 in range(n_sizes.shape[0] - 1, -1, -1):
                k1 = outer_k[m1, n1] - smaller
                if k1 < 0:
                    continue
                outer[0], outer[1], outer[2] = m_sizes[m1], n_sizes[n1], k_sizes[k1]
                if stages == 2:
                    _set_kinds(gemm, region, holds, 1, whole, outer, kinds_1, counts_1)
                for o1 in range(outer_orders):
                    asked_outside = asked[o1]
                    if stages == 2:
                        _set_asked(gemm, outer, orders[o1], asked[o1])
                        repeated = False
                        for before in range(o1):
                            repeated |= (asked[before] == asked[o1]).all()
                        if repeated:
                            continue
                        _set_crossed(
                            gemm, holds, 1, kinds_1, counts_1, nothing_asked, places[o1], False, crossed
                        )
                        if bound:
                            for operand in range(3):
                                if holds[0, operand] >= 0:
                                    again = asked[o1, operand] and _plain(gemm, region, operand)
                                    times = math.ceil(whole[_MISSING[operand]] / outer[_MISSING[operand]])
                                    crossed[0, operand] = counts[0, operand, 2] * gemm[3 + operand]
                                    crossed[0, operand] *= times if again else 1.0
                            _array_side(gemm, work, holds, whole, whole, outside, base)
                            _set_cost(
                                gemm, work, untiled, crossed, holds, levels, dram, base, moved, waits, least
                            )
                            if not _better(objective, least, best):
                                looked += 1
                                continue
                    for m0 in range(m1, -1, -1):
                        for n0 in range(n1, -1, -1):
                            if inner_k[m0, n0] < 0:
                                continue
                            inner[0], inner[1] = m_sizes[m0], n_sizes[n0]
                            top = min(inner_k[m0, n0], k1)
                            for k0 in range(top, -1 if every_k else top - 1, -1):
                                inner[2] = k_sizes[k0]
                                looked += 1
                                compute = _array_side(gemm, work, holds, outer, inner, outside, base)
                                if bound and objective == 0 and compute > best[0]:
                                    continue
                                _set_kinds(gemm, region, holds, 0, outer, inner, kinds_0, counts_0)
                                if bound:
                                    _set_crossed(
                                        gemm,
                                        holds,
                                        0,
                                        kinds_0,
                                        counts_0,
                                        asked_outside,
                                        places[0],
                                        True,
                                        crossed,
                                    )
                                    _set_cost(
                                        gemm,
                                        work,
                                        compute,
                                        crossed,
                                        holds,
                                        levels,
                                        dram,
                                        base,
                                        moved,
                                        waits,
                                        least,
                                    )
                                    if not _better(objective, least, best):
                                        continue
                                for o0 in range(orders.shape[0]):
                                    _set_crossed(
                                        gemm,
                                        holds,
                                        0,
                                        kinds_0,
                                        counts_0,
                                        asked_outside,
                                        places[o0],
                                        False,
                                        crossed,
                                    )
                                    _set_cost(
                                        gemm,
                                        work,
                                        compute,
                                        crossed,
                                        holds,
                                        levels,
                                        dram,
                                        base,
                                        moved,
                                        waits,
                                        cost,
                                    )
                                    if _better(objective, cost, best):
                                        best[:] = cost
                                        best_tiles[:] = tiles
                                        best_orders[0], best_orders[1] = o0, o1
    return best_tiles, best_orders, looked
