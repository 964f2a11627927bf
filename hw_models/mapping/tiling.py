"""The candidates of the search: tile sizes of a dimension, and loop orders.

A dimension of size D over whose array the step is s (the rows or columns that a fold covers; what one step takes for
the one in time) has the tiles

    ceil(D / 2^j) rounded up to s, j = 0, 1, 2, ...,    and D itself in place of what is larger.

They depend on the GEMM and the array, never on the memories, so that a larger memory only adds mappings. Twice a
dimension of whole steps has all the tiles of the dimension, so that two halves are never better than a whole. Sizes
between them are not tried: that is the bound of the search. Every stage has the same candidates; an inner tile is no
larger than the one around it, and need not divide it.
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
        found.add(min(size, ceil_div(part, step) * step))
    return tuple(sorted(found))


def parts(size: int, tile: int) -> list[tuple[int, int]]:
    """The tiles of a dimension by size: (size, how many), the whole ones and the rest."""
    whole, rest = divmod(size, tile)
    return [(tile, whole), (rest, 1)] if rest else [(tile, whole)]
