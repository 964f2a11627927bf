"""Which scale each element of a tile has: the twin of `scale[(i // run) % channels]`, almost without divisions.

Importing this module imports Triton.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

import triton
import triton.language as tl

#: One scale in all; runs of at least a tile, of which a tile meets two at most; shorter runs.
ONE, LONG, SHORT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def spread(
    values,
    start,
    size,
    run,
    channels,
    LAYOUT: tl.constexpr,
    PIECE: tl.constexpr,
    PERIODIC: tl.constexpr,
    TILE: tl.constexpr,
):
    """The values of the tile's elements: a scalar with one value in all, else [TILE].

    Args:
        values: Pointer to [channels].
        start: int64, the tile's first element.
        size: Elements in all.
        run: Elements in a row that share a value.
        channels: How many values there are.
        LAYOUT: ONE, LONG or SHORT.
        PIECE: A power of two that divides `run` and the tile: a value is looked up once for each piece.
        PERIODIC: Whether the values repeat, that is, run channels < size.
        TILE: Elements of a tile.
    """
    if LAYOUT == ONE:
        return tl.load(values)
    elif LAYOUT == LONG:
        run = run.to(tl.int64)
        first = start // run
        left = tl.minimum((first + 1) * run - start, TILE).to(tl.int32)
        if PERIODIC:
            now, then = first % channels, (first + 1) % channels
        else:
            now, then = first, tl.minimum(first + 1, channels - 1)
        return tl.where(tl.arange(0, TILE) < left, tl.load(values + now), tl.load(values + then))
    else:
        first = start // run
        piece = tl.arange(0, TILE // PIECE)
        steps = ((start - first * run) // PIECE).to(tl.int32) + piece
        steps = steps // (run // PIECE)
        if PERIODIC:
            pointers = values + ((first % channels).to(tl.int32) + steps) % channels
        else:
            pointers = values + first + steps
        found = tl.load(pointers, mask=start + piece * PIECE < size)
        return tl.reshape(tl.broadcast_to(found[:, None], (TILE // PIECE, PIECE)), (TILE,))
