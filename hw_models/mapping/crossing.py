"""Elements of tiles, and what of them crosses into a stage: the definition, in whole numbers.

The loops over the tiles of the outermost stage enclose those of the next stage, and so on to the array. An operand
crosses into a stage once for each run of the loops that asks for another tile of it. With counts n of tiles, an
operand's tensor therefore crosses, at a single stage,

    n_d times, d the one dimension that the operand does not have, if a loop over one of its own dimensions with more
    than one tile runs inside the loop over d; once otherwise (the tile stays while d runs).

`crossing_elements` says what two stages do, where tiles at the edge hold fewer tiles.

By hand, M = N = K = 4 in tiles of (2, 2, 4) and the order "MNK": a lhs tile [2, 4] stays while N runs, so the lhs
crosses once, 16 elements. The rhs has N inside M, so it crosses n_M = 2 times, 32. A result tile is summed up at
once, and leaves once, 16. In tiles of (2, 2, 2) and the order "KMN" the result has M and N inside K: it leaves twice,
and all but the first time its partial sums come in again.

A tensor behind an unfolded operand counts with the elements that its tiles cover (`conv_tiles`).
"""

from __future__ import annotations

from hw_models.compute.work import ceil_div
from hw_models.mapping.conv_tiles import region_elements
from hw_models.mapping.machine import Level
from hw_models.mapping.problem import DIMENSIONS, MISSING, OPERAND_DIMENSIONS, Problem
from hw_models.mapping.tiling import Tiling, parts

Sizes = dict[str, int]


def tile_bits(problem: Problem, tile: tuple[int, int, int], operand: str) -> int:
    """What a tile of an operand takes, in the problem's units."""
    return tile_elements(problem, _by_name(tile), operand) * problem.width(operand)


def fits(problem: Problem, tile: tuple[int, int, int], level: Level) -> bool:
    """Whether a memory holds the tiles of its operands, of all GEMMs that run side by side."""
    bits = sum(tile_bits(problem, tile, operand) for operand in level.holds)
    return problem.work.at_once * bits <= level.tile_bits * problem.units_per_bit


def tile_elements(problem: Problem, size: Sizes, operand: str) -> int:
    """Elements of a tile of an operand, whose own dimensions `size` has: of the tensor behind it, or padded."""
    region = problem.region
    if region is not None and region.operand == operand:
        return region_elements(region, size[region.pixels], size[region.columns])
    a, b = OPERAND_DIMENSIONS[operand]
    if operand != problem.padded:
        return size[a] * size[b]
    step_a, step_b = problem.step(a), problem.step(b)
    return ceil_div(size[a], step_a) * step_a * ceil_div(size[b], step_b) * step_b


def crossing_elements(problem: Problem, tiling: Tiling, stage: int, operand: str) -> int:
    """Elements of an operand that enter a stage; of the result, that leave it.

    The tiles of the stage outside come in up to two sizes along each of the operand's dimensions. For each of these
    kinds, with a x b tiles inside: a single one stays while the outer loop over the missing dimension runs, if that
    runs inside; more of them cross for each of its outer tiles, or for each of its inner ones, if an inner loop over
    more than one of them runs inside the inner loop over the missing dimension.

    Args:
        problem: The GEMM.
        tiling: The mapping.
        stage: The stage.
        operand: "lhs", "rhs" or "result".
    """
    sizes, inner = _by_name(problem.sizes), _by_name(tiling.tiles[stage])
    last = stage + 1 == len(tiling.tiles)
    outer = sizes if last else _by_name(tiling.tiles[stage + 1])
    (a, b), missing = OPERAND_DIMENSIONS[operand], MISSING[operand]
    outer_tiles: Sizes = {d: ceil_div(sizes[d], outer[d]) for d in DIMENSIONS}
    inner_tiles = sum(
        many * ceil_div(part, inner[missing]) for part, many in parts(sizes[missing], outer[missing])
    )
    outer_order = "MNK" if last else tiling.orders[stage + 1]
    stays = 1 if not _asked_inside(outer_order, missing, outer_tiles) else outer_tiles[missing]
    total = 0
    for part_a, many_a in parts(sizes[a], outer[a]):
        for part_b, many_b in parts(sizes[b], outer[b]):
            inside = {a: ceil_div(part_a, inner[a]), b: ceil_div(part_b, inner[b])}
            if inside[a] == inside[b] == 1:
                times = stays
            elif _asked_inside(tiling.orders[stage], missing, inside):
                times = inner_tiles
            else:
                times = outer_tiles[missing]
            once = _once(problem, operand, {a: part_a, b: part_b}, inner)
            total += many_a * many_b * times * once
    # Tiles are taken to begin at the start of a row, so that some of few windows seem to share what they do not.
    whole = tile_elements(problem, sizes, operand)
    return max(total, whole)


def _by_name(sizes: tuple[int, int, int]) -> Sizes:
    m, n, k = sizes
    return {"M": m, "N": n, "K": k}


def _asked_inside(order: str, missing: str, tiles: Sizes) -> bool:
    """Whether a loop over several tiles, other than the missing dimension's, runs inside that one's."""
    return any(tiles[d] > 1 for d in order[order.index(missing) + 1 :])


def _once(problem: Problem, operand: str, around: Sizes, inner: Sizes) -> int:
    """Elements of all tiles of an operand inside a part of it."""
    a, b = OPERAND_DIMENSIONS[operand]
    region = problem.region
    if operand != problem.padded and (region is None or region.operand != operand):
        return around[a] * around[b]  # the tiles of a plain matrix share nothing
    return sum(
        many_a * many_b * tile_elements(problem, {a: part_a, b: part_b}, operand)
        for part_a, many_a in parts(around[a], inner[a])
        for part_b, many_b in parts(around[b], inner[b])
    )
