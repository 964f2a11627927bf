"""Energy of a bit at an on-chip memory, at the width of its banks' words.

Between two given widths the energy of an access is interpolated, w = (bits - b0) / (b1 - b0), as wires and
decoders add a constant and bit lines a part that grows with the width; narrower than the first it is the first's
(a narrow access still opens a row), and wider than the last it goes with the width (several accesses).
A single given width stands for packed accesses: the energy of a bit is then the same for all words.
"""

from __future__ import annotations

from itertools import pairwise

from hw_models.schema.base import Figure
from hw_models.schema.memory import OnChip


def access_pj_per_bit(level: OnChip, *, write: bool) -> tuple[float, float, float]:
    """Low, nominal and high pJ to read or to write a bit.

    Args:
        level: The memory.
        write: Whether to write; else to read.
    """
    figures = [(a.bits, a.write_pj if write else a.read_pj) for a in level.accesses]
    return tuple(_at_width(figures, level.word_bits, end) for end in ("low", "nominal", "high"))  # type: ignore[return-value]


def _at_width(figures: list[tuple[int, Figure]], bits: int, end: str) -> float:
    points = [(width, float(getattr(figure, end))) for width, figure in figures]
    if len(points) == 1:
        return points[0][1] / points[0][0]
    if bits <= points[0][0]:
        return points[0][1] / bits
    for (b0, e0), (b1, e1) in pairwise(points):
        if bits <= b1:
            return (e0 + (e1 - e0) * (bits - b0) / (b1 - b0)) / bits
    return points[-1][1] / points[-1][0]
