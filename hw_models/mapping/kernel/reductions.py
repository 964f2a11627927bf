"""Which tiles of the reduction the search tries, compiled.

A larger tile of K next to the array moves no more, for fewer tiles of it cross and fewer partial sums leave, but for
two cases. Tiles of a convolution's tensor may cover less of it in all where they are smaller, as they end between
channels or rows. And runs of steps that the fold's least cycles round up may take fewer cycles where they are cut
otherwise. So a tile is left out only if a larger one that fits as well is never worse than it:

    in each kind of outer tile, the larger tiles cover no more of the lhs and no more of the rhs, and
    a fold over all of them takes no longer

All else, the counts of tiles and what is read again, is the less the larger the tile. Nothing better is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from hw_models.mapping.kernel.cost import run_cycles
from hw_models.mapping.kernel.elements import OWN, fits, once, plain


class Reductions(NamedTuple):
    """What is known of the candidates of K.

    Attributes:
        inner, outer: [m, n] the largest that fits each stage, or -1.
        better: [m or n, k] the smallest larger one that is never worse inside the present outer tile, or how many
            there are for none; beside each m or n of `beside_dimension`, in the first row alone without one.
        covered: [k, 2, 4] elements of lhs and rhs that its tiles cover in each kind of outer tile.
        folds: [k] cycles of a fold over its tiles.
    """

    inner: np.ndarray
    outer: np.ndarray
    better: np.ndarray
    covered: np.ndarray
    folds: np.ndarray


@numba.njit
def reductions(gemm, machine, tiles):
    """The candidates of K before any outer tile is looked at."""
    many_m, many_n, many_k = tiles.m.shape[0], tiles.n.shape[0], tiles.k.shape[0]
    inner = _largest(gemm, machine, 0, tiles)
    if machine.stages == 2:
        outer = _largest(gemm, machine, 1, tiles)
    else:
        outer = np.full_like(inner, -1)
        outer[-1, -1] = many_k - 1
    better = np.empty((max(many_m, many_n), many_k), dtype=np.int64)
    for k in range(many_k):
        better[:, k] = k + 1
    return Reductions(inner, outer, better, np.zeros((many_k, 2, 4)), np.zeros(many_k))


@numba.njit
def _largest(gemm, machine, stage, tiles):
    """The index of the largest k that fits a stage beside each m and n, or -1."""
    largest = np.empty((tiles.m.shape[0], tiles.n.shape[0]), dtype=np.int64)
    tile = np.empty(3)
    for i in range(tiles.m.shape[0]):
        for j in range(tiles.n.shape[0]):
            tile[0], tile[1] = tiles.m[i], tiles.n[j]
            # What does not fit beside a narrower tile does not fit beside this one.
            at = tiles.k.shape[0] - 1 if j == 0 else largest[i, j - 1]
            while at >= 0:
                tile[2] = tiles.k[at]
                if fits(gemm, machine, stage, tile):
                    break
                at -= 1
            largest[i, j] = at
    return largest


@numba.njit
def beside_dimension(gemm):
    """The dimension beside K that a tensor's tiles have and what they cover depends on; -1 without a tensor."""
    return gemm.region.operand


@numba.njit
def _set_covered(gemm, outer, inner, covered):
    """Set the elements of lhs and rhs, covered [2, 4], that the tiles in each kind of outer tile cover."""
    for operand in range(2):
        if plain(gemm, operand):
            continue
        da, db = OWN[operand, 0], OWN[operand, 1]
        for kind in range(4):
            part_a = outer[da] if kind < 2 else gemm.sizes[da] % outer[da]
            part_b = outer[db] if kind % 2 == 0 else gemm.sizes[db] % outer[db]
            covered[operand, kind] = 0.0
            if part_a > 0.0 and part_b > 0.0:
                covered[operand, kind] = once(gemm, operand, part_a, part_b, inner[da], inner[db])


@numba.njit
def _fold(gemm, outer, tile):
    """Cycles of a fold over all tiles of the reduction, where that is what runs in time."""
    if gemm.work.time_dimension != 2:
        return 0.0
    size, step = gemm.sizes[2], gemm.steps[2]
    cycles = (size // outer) * run_cycles(gemm.work, outer, tile, step)
    return cycles + run_cycles(gemm.work, size % outer, tile, step)


@numba.njit
def _never_worse(known, larger, smaller):
    if known.folds[larger] > known.folds[smaller]:
        return False
    for operand in range(2):
        for kind in range(4):
            if known.covered[larger, operand, kind] > known.covered[smaller, operand, kind]:
                return False
    return True


@numba.njit
def _set_row(gemm, tiles, outer, inner, row, known):
    """Set what is better than each k inside an outer tile beside one m or n, which `inner` has."""
    many = tiles.k.shape[0]
    while many and tiles.k[many - 1] > outer[2]:
        many -= 1
    for k in range(many - 1, -1, -1):
        inner[2] = tiles.k[k]
        known.folds[k] = _fold(gemm, outer[2], tiles.k[k])
        _set_covered(gemm, outer, inner, known.covered[k])
        known.better[row, k] = tiles.k.shape[0]
        for larger in range(k + 1, many):
            if _never_worse(known, larger, k):
                known.better[row, k] = larger
                break


@numba.njit
def set_better(gemm, tiles, outer, inner, known):
    """Set `known.better` for an outer tile.

    Args:
        gemm: The problem.
        tiles: The candidates.
        outer: The tile around, [3].
        inner: [3] to work in.
        known: From `reductions`.
    """
    if plain(gemm, 0) and plain(gemm, 1) and gemm.work.time_dimension != 2:
        return
    d = beside_dimension(gemm)
    inner[0], inner[1] = outer[0], outer[1]
    if d < 0:
        _set_row(gemm, tiles, outer, inner, 0, known)
        return
    sizes = tiles.n if d == 1 else tiles.m
    for row in range(sizes.shape[0]):
        if sizes[row] > outer[d]:
            break
        inner[d] = sizes[row]
        _set_row(gemm, tiles, outer, inner, row, known)
