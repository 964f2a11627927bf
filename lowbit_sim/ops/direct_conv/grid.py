"""Windows as shifts of one row of memory.

Row i of the output reads, at kernel row r, the input row i stride + r dilation - top. With q, p = divmod(r dilation -
top, stride) that is row i + q of the plane of every stride-th input row from p on. So where output positions and
planes lie on one grid that is wide enough for all shifts, each tap is the plane itself, read from another place on:
whole images are copied in one run, and positions of the grid that are no output are multiplied by zeros.

Along rows without a stride grad_output may be shifted against the input just as well, so that each tensor is copied
for one axis of the kernel (`Shifts`): C S + O R rows of memory in place of C R S + O.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
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
        taps: int64 [T, 2]: which plane each tap reads, and from which place on.
        lead: Zeros before the first image of a plane.
    """

    first: Sizes
    size: Sizes
    planes: np.ndarray
    taps: np.ndarray
    lead: int = 0

    @functools.cached_property
    def positions(self) -> int:
        """Places of an image."""
        return self.size[0] * self.size[1]

    @functools.cached_property
    def reach(self) -> int:
        """The furthest place that a tap reads from."""
        return int(self.taps[:, 1].max())

    def plane_length(self, length: int) -> int:
        """Bytes of a plane whose taps read so many each: at the end of the last image they read on beyond it."""
        return self.lead + self.reach + length

    def at_positions(self, shifts: np.ndarray, lead: int) -> Grid:
        """The same grid for tensors that lie at its positions as they are.

        Args:
            shifts: int64 [T], the places that the taps read from.
            lead: Zeros before the first image.
        """
        taps = np.stack([np.zeros_like(shifts), shifts], axis=1)
        plane = np.zeros((1, 2), dtype=np.int64)
        return Grid(first=(0, 0), size=self.size, planes=plane, taps=taps, lead=lead)


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """How both tensors of a weight's gradient are copied.

    Attributes:
        inputs: The input's grid: a tap for each column of the kernel, or for each of its places.
        gradients: grad_output's: a tap for each row of the kernel, or one.
        margin: Positions that are multiplied beyond those of the images.
    """

    inputs: Grid
    gradients: Grid
    margin: int = 0


@functools.lru_cache(maxsize=4096)
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


@functools.lru_cache(maxsize=4096)
def shifts_of(window: Window, in_size: Sizes, out_size: Sizes, channels: int, out_channels: int) -> Shifts:
    """The way that copies less.

    Args:
        window: The geometry.
        in_size: (H, W) of the input.
        out_size: (H', W') of the output.
        channels: Channels of the input.
        out_channels: Channels of the output.
    """
    grid = grid_of(window, in_size, out_size)
    rows, columns = window.kernel
    together = channels * rows * columns + out_channels
    if window.stride[0] != 1 or channels * columns + out_channels * rows >= together:
        return Shifts(inputs=grid, gradients=grid.at_positions(np.zeros(1, dtype=np.int64), 0))
    # Tap r of grad_output is r dilation rows later than the first, as the input's would have been earlier.
    later = np.arange(rows, dtype=np.int64) * window.dilation[0] * grid.size[1]
    margin = int(later[-1])
    inputs = replace(grid, taps=grid.taps[:columns])
    return Shifts(inputs=inputs, gradients=grid.at_positions(margin - later, margin), margin=margin)


def _shared(axis: int, window: Window, in_size: Sizes, out_size: Sizes) -> int:
    """Zeros after a row that may as well be those before the next one."""
    if window.stride[axis] != 1:
        return 0
    last = out_size[axis] - 1 + window.span[axis] - window.before[axis]
    return max(min(window.before[axis], last - in_size[axis] + 1), 0)
