"""How much of a tensor a tile of its unfolded matrix covers.

A tile of t pixels and u columns of the window touches

    rows    = min(source height, ceil(((p - 1) min(step, span) + span) / inserted)),
              p = ceil(t / grid width) rows of pixels
    columns = all, or for less than a row of pixels as the rows, from t
    images  = t / pixels of an image, rounded up, where that is more than one

of ceil(u / window) channels: the overlap of neighbouring windows is in it once, the halo of neighbouring tiles in
each of them. It never counts for more than the t x u elements of the unfolded tile. A tile is taken to begin at the
start of a row.
"""

from __future__ import annotations

from hw_models.compute.work import ceil_div
from hw_models.mapping.problem import Region


def region_elements(region: Region, pixels: int, columns: int) -> int:
    """Elements of the tensor that a tile covers.

    Args:
        region: The tensor.
        pixels: Rows of the unfolded tile.
        columns: Its columns.
    """
    height, width = region.grid
    channels = ceil_div(columns, region.window)
    if pixels >= height * width:
        images = ceil_div(pixels, height * width)
        area = images * _extent(region, 0, height) * _extent(region, 1, width)
    elif pixels >= width:
        area = _extent(region, 0, ceil_div(pixels, width)) * _extent(region, 1, width)
    else:
        area = _extent(region, 0, 1) * _extent(region, 1, pixels)
    return min(channels * area, pixels * columns)


def _extent(region: Region, axis: int, windows: int) -> int:
    """Rows or columns of the tensor under a run of windows."""
    # What lies between windows that are further apart than they are wide is not touched.
    covered = (windows - 1) * min(region.step[axis], region.span[axis]) + region.span[axis]
    return min(region.source[axis], ceil_div(covered, region.inserted[axis]))
