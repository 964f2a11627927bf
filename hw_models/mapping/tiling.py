"""The candidates of the search: tile sizes of a dimension, and loop orders.

A dimension of size D over whose array the step is s (the rows or columns that a fold covers; what one step takes for
the one in time) has the tiles

    ceil(D / 2^j) rounded up and down to s, j = 1, 2, ...,    and D itself.

Of these only D may end inside a step: the array is billed for the folds of the whole dimension, which tiles of whole
steps cut without a fold more. They depend on the GEMM and the array, never on the memories, so that a larger memory
only adds mappings.

Twice a dimension has all tiles of the dimension but, where that is no multiple of s, D itself. What is rounded down
stands for it then: it fits wherever D does, and cuts 2 D into three or four tiles where two halves have two. So twice
a dimension of a step or more takes at most twice the passes and two more (`tests/hw_models/test_batch_scaling.py`).

Sizes between them are not tried: that is the bound of the search. Every stage has the same candidates; an inner tile
is no larger than the one around it, and need not divide it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from hw_models.compute.work import ceil_div

#: The orders of the three loops over tiles, outermost first.
ORDERS = tuple("".join(order) for order in permutations("MNK"))


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """A mapping.

    Attributes:
        tiles: (m, n, k) of each stage, from the array outwards.
        orders: The order of the loops over the tiles of each stage, outermost first, as in "NMK".
    """

    tiles: tuple[tuple[int, int, int], ...]
    orders: tuple[str, ...]


@lru_cache(maxsize=1 << 14)
def tile_sizes(size: int, step: int) -> tuple[int, ...]:
    """Tiles of a dimension, ascending.

    Args:
        size: The dimension, 1 or more.
        step: What one fold of the array covers of it.
    """
    found = {size}
    part = size
    while part > 1:
        part = ceil_div(part, 2)
        found |= {ceil_div(part, step) * step, max(part // step, 1) * step}
    return tuple(sorted(tile for tile in found if tile <= size))


def parts(size: int, tile: int) -> list[tuple[int, int]]:
    """The tiles of a dimension by size: (size, how many), the whole ones and the rest."""
    whole, rest = divmod(size, tile)
    return [(tile, whole), (rest, 1)] if rest else [(tile, whole)]
