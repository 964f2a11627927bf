"""The loops over tiles, walked one by one: the obvious twin of the closed forms of traffic."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hw_models.mapping.conv_tiles import region_elements
from hw_models.mapping.problem import DIMENSIONS, OPERAND_DIMENSIONS, Problem
from hw_models.mapping.tiling import Tiling

Box = dict[str, tuple[int, int]]  # dimension: (start, size)


@dataclass
class Resident:
    """The tile that one memory holds of one operand, and what it took to get there, in elements."""

    tile: tuple[tuple[int, int], ...] | None = None
    entered: int = 0
    left: int = 0
    seen: set[tuple[tuple[int, int], ...]] = field(default_factory=set)


def _cut(box: Box, tile: tuple[int, int, int], order: str) -> Iterator[Box]:
    if not order:
        yield box
        return
    dimension, rest = order[0], order[1:]
    start, size = box[dimension]
    step = tile[DIMENSIONS.index(dimension)]
    for first in range(start, start + size, step):
        yield from _cut(box | {dimension: (first, min(step, start + size - first))}, tile, rest)


def _elements(problem: Problem, box: Box, operand: str) -> int:
    region = problem.region
    if region is not None and region.operand == operand:
        return region_elements(region, box[region.pixels][1], box[region.columns][1])
    a, b = OPERAND_DIMENSIONS[operand]
    return box[a][1] * box[b][1]


def walk(problem: Problem, tiling: Tiling) -> dict[tuple[int, str], Resident]:
    """Every operand at every stage after all loops have run; the result of the last tile has left."""
    held = {(s, o): Resident() for s in range(len(tiling.tiles)) for o in OPERAND_DIMENSIONS}
    whole = {d: (0, size) for d, size in zip(DIMENSIONS, problem.sizes, strict=True)}
    _descend(problem, tiling, whole, len(tiling.tiles) - 1, held)
    for (_, operand), resident in held.items():
        if operand == "result" and resident.tile is not None:
            resident.left += _tile_elements(resident.tile)
    return held


def _descend(
    problem: Problem, tiling: Tiling, box: Box, stage: int, held: dict[tuple[int, str], Resident]
) -> None:
    if stage < 0:
        return
    for part in _cut(box, tiling.tiles[stage], tiling.orders[stage]):
        for operand in OPERAND_DIMENSIONS:
            _ask(problem, part, operand, held[stage, operand])
        _descend(problem, tiling, part, stage - 1, held)


def _ask(problem: Problem, box: Box, operand: str, resident: Resident) -> None:
    tile = tuple(box[d] for d in OPERAND_DIMENSIONS[operand])
    if resident.tile == tile:
        return
    if operand == "result":
        if resident.tile is not None:
            resident.left += _tile_elements(resident.tile)
        if tile in resident.seen:
            resident.entered += _tile_elements(tile)
    else:
        resident.entered += _elements(problem, box, operand)
    resident.seen.add(tile)
    resident.tile = tile


def _tile_elements(tile: tuple[tuple[int, int], ...]) -> int:
    return tile[0][1] * tile[1][1]


def whole_elements(problem: Problem, operand: str) -> int:
    """Elements of an operand in one piece."""
    box = {d: (0, size) for d, size in zip(DIMENSIONS, problem.sizes, strict=True)}
    return _elements(problem, box, operand)
