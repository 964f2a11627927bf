"""Windows as shifts of one row of memory.

Row i of the output reads, at kernel row r, the input row i stride + r dilation - top. With q, p = divmod(r dilation -
top, stride) that is row i + q of the plane of every stride-th input row from p on. So where output positions and
planes lie on one grid that is wide enough for all shifts, each tap is the plane itself, read from another place on:
whole images are copied in one run, and positions of the grid that are no output are multiplied by zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from lowbit_sim.ops.im2col import Sizes, Window


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid of one image.

    Attributes:
        first: Row and column of a plane that the grid starts at.
        size: Rows and columns.
        planes: int64 [planes, 2]: row and column of the input that each plane starts at, below the stride.
        taps: int64 [R S, 2]: which plane each tap reads, and from which place on.
    """

    first: Sizes
    size: Sizes
    planes: np.ndarray
    taps: np.ndarray

    def plane_length(self, images: int) -> int:
        """Bytes of a plane of so many images: a tap at the end of the last image reads on beyond it."""
        return images * self.size[0] * self.size[1] + int(self.taps[:, 1].max())

    @property
    def of_positions(self) -> Grid:
        """The same grid for tensors that lie at its positions as they are: one plane, one tap."""
        zero = np.zeros((1, 2), dtype=np.int64)
        return Grid(first=(0, 0), size=self.size, planes=zero, taps=zero)


def grid_of(window: Window, in_size: Sizes, out_size: Sizes) -> Grid:
    """The grid of a convolution with two spatial axes.

    Args:
        window: The geometry.
        in_size: (H, W) of the input.
        out_size: (H', W') of the output.
    """
    reads = [
        [divmod(k * window.dilation[axis] - window.before[axis], window.stride[axis]) for k in range(n)]
        for axis, n in enumerate(window.kernel)
    ]
    first = tuple(min(q for q, _ in axis) for axis in reads)
    size = tuple(
        out_size[axis]
        + max(q for q, _ in reads[axis])
        - first[axis]
        - _shared(axis, window, in_size, out_size)
        for axis in range(2)
    )
    starts = sorted({(p, s) for (_, p), (_, s) in product(*reads)})
    taps = [
        (starts.index((p_row, p_column)), (q_row - first[0]) * size[1] + q_column - first[1])
        for (q_row, p_row), (q_column, p_column) in product(*reads)
    ]
    return Grid(
        first=first, size=size, planes=np.array(starts, dtype=np.int64), taps=np.array(taps, dtype=np.int64)
    )


def _shared(axis: int, window: Window, in_size: Sizes, out_size: Sizes) -> int:
    """Zeros after a row that may as well be those before the next one."""
    if window.stride[axis] != 1:
        return 0
    last = out_size[axis] - 1 + window.span[axis] - window.before[axis]
    return max(min(window.before[axis], last - in_size[axis] + 1), 0)
