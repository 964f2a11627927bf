"""Codes from channels-first to channels-last and sums back, compiled. Importing this module imports numba.

| kernel           | reads              | writes                                            |
|------------------|--------------------|---------------------------------------------------|
| `channels_last`  | codes [N, C, H, W] | codes [N, H', W', C], placed on a wider grid      |
| `channels_first` | sums [N, P, C]     | sums [N, C, P]                                    |
| `shifted_rows`   | codes [N, C, H, W] | windows [C T, L] of some images, on their grid    |

Every kernel copies in tiles that fit the first-level cache, whole runs of what is written at a time. `share` says how
many threads work on the calls that follow it: once for each operator, as asking costs as much as a small kernel.
"""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba
from lowbit_sim.ops.direct_conv.grid import Grid
from lowbit_sim.ops.direct_conv.tile_ir import (
    SIDE,
    copy_8,
    copy_16,
    copy_32,
    copy_bytes,
    transpose_bytes,
    transpose_words,
)

prepare_numba()

#: Positions that are worked on at a time: with 64 channels they fit the first-level cache.
_POSITIONS = 64

#: Elements that make another thread worth starting.
_ELEMENTS_PER_THREAD = 1 << 15


@cached()
def _row_channels_last(source, source_step, target, target_step, channels, width, offset, codes, out):
    """One row of positions: whole tiles by their addresses, the rest element by element."""
    whole_channels, whole_width = channels - channels % SIDE, width - width % SIDE
    for start in range(0, whole_width, _POSITIONS):
        for c in range(0, whole_channels, SIDE):
            for w in range(start, min(start + _POSITIONS, whole_width), SIDE):
                transpose_bytes(
                    source + c * source_step + w,
                    source_step,
                    target + w * target_step + c,
                    target_step,
                    offset,
                )
    for w in range(width):
        for c in range(whole_channels if w < whole_width else 0, channels):
            out[w, c] = codes[c, w] + offset


@cached(parallel=True)
def _channels_last(codes, offset, top, left, down, across, out):
    batch, channels, height, width = codes.shape
    wider = out.shape[1] != height or out.shape[2] != width or top or left or down > 1 or across > 1
    first = max(0, -(left // across))
    last = min(width, (out.shape[2] - left + across - 1) // across)
    for n in numba.prange(batch):
        if wider:
            out[n] = offset  # around the codes; the image is still in the cache when they follow
        for h in range(height):
            row = top + h * down
            if 0 <= row < out.shape[1] and first < last:
                source = codes[n, :, h, first:last]
                target = out[n, row, left + first * across :: across]
                _row_channels_last(
                    codes.ctypes.data + ((n * channels * height) + h) * width + first,
                    height * width,
                    out.ctypes.data
                    + ((n * out.shape[1] + row) * out.shape[2] + left + first * across) * channels,
                    across * channels,
                    channels,
                    last - first,
                    np.int8(offset),
                    source,
                    target,
                )


@cached(parallel=True)
def _channels_first(x, out):
    batch, positions, channels = x.shape
    whole_channels = channels - channels % SIDE
    tiles = (positions + _POSITIONS - 1) // _POSITIONS
    for task in numba.prange(batch * tiles):
        n, start = task // tiles, task % tiles * _POSITIONS
        stop = min(start + _POSITIONS, positions)
        whole = stop - (stop - start) % SIDE
        source = x.ctypes.data + n * positions * channels * 4
        target = out.ctypes.data + n * positions * channels * 4
        for c in range(0, whole_channels, SIDE):
            for p in range(start, whole, SIDE):
                transpose_words(
                    source + (p * channels + c) * 4,
                    channels * 4,
                    target + (c * positions + p) * 4,
                    positions * 4,
                    0,
                )
        for c in range(channels):
            for p in range(whole if c < whole_channels else start, stop):
                out[n, c, p] = x[n, p, c]


@cached()
def _span(count, first, stride, start, length):
    """The places of a grid of `count` that lie on an axis: place j is at (j + first) stride + start."""
    below = -(first * stride + start)
    above = length - 1 - start
    return max(0, (below + stride - 1) // stride), min(count, above // stride - first + 1)


@cached()
def _copy_row(source, target, length):
    """So many bytes: rows of an image are short. Two copies of a rest overlap."""
    if length >= 32:
        for i in range(0, length - 31, 32):
            copy_32(source + i, target + i)
        copy_32(source + length - 32, target + length - 32)
    elif length >= 16:
        copy_16(source, target)
        copy_16(source + length - 16, target + length - 16)
    elif length >= 8:
        copy_8(source, target)
        copy_8(source + length - 8, target + length - 8)
    else:
        copy_bytes(source, target, max(length, 0))


@cached()
def _fill_plane(image, height, width, stride, start, first, size, plane):
    """Every stride-th row and column of the image at an address on the grid at another."""
    top, bottom = _span(size[0], first[0], stride[0], start[0], height)
    left, right = _span(size[1], first[1], stride[1], start[1], width)
    for i in range(top, bottom):
        source = image + ((i + first[0]) * stride[0] + start[0]) * width + first[1] * stride[1] + start[1]
        target = plane + i * size[1]
        if stride[1] == 1:
            _copy_row(source + left, target + left, right - left)
        else:
            for j in range(left, right):
                copy_bytes(source + j * stride[1], target + j, 1)


@cached(parallel=True)
def _shifted_rows(codes, stride, planes, plane_length, lead, first, size, taps, out):
    batch, channels, height, width = codes.shape
    length, plane_size = out.shape[1], size[0] * size[1]
    for c in numba.prange(channels):
        plane = np.zeros(len(planes) * plane_length, dtype=np.int8)
        for k in range(len(planes)):
            for n in range(batch):
                _fill_plane(
                    codes.ctypes.data + (n * channels + c) * height * width,
                    height,
                    width,
                    stride,
                    (planes[k, 0], planes[k, 1]),
                    first,
                    size,
                    plane.ctypes.data + k * plane_length + lead + n * plane_size,
                )
        for tap in range(len(taps)):
            source = plane.ctypes.data + taps[tap, 0] * plane_length + taps[tap, 1]
            copy_bytes(source, out.ctypes.data + (c * len(taps) + tap) * length, length)


def share(elements: int) -> None:
    """Let the calling thread's next kernels, each of so many elements, use as many threads as torch does."""
    match_torch_threads(elements // _ELEMENTS_PER_THREAD)


def channels_last(codes: np.ndarray, offset: int, place: tuple[int, ...], out: np.ndarray) -> None:
    """Put codes [N, C, H, W] on the grid of `out` [N, H', W', C]: row h at top + h down, column w at left + w across.

    Args:
        codes: int8, contiguous.
        offset: What is added to each code, modulo 256.
        place: top, left, down, across. What falls outside of the grid is left out.
        out: int8, contiguous; `offset` where no code falls.
    """
    batch, channels, height, width = codes.shape
    if place == (0, 0, 1, 1) and out.shape[1:3] == (height, width):
        # One long row: short rows would make short tiles.
        codes = codes.reshape(batch, channels, 1, height * width)
        out = out.reshape(batch, 1, height * width, channels)
    top, left, down, across = place
    _channels_last(codes, offset if offset < 128 else offset - 256, top, left, down, across, out)


def channels_first(x: np.ndarray, out: np.ndarray) -> None:
    """The transpose of each [P, C] of float32 x [N, P, C] into `out` [N, C, P], both contiguous."""
    _channels_first(x, out)


def shifted_rows(codes: np.ndarray, stride: tuple[int, ...], grid: Grid, out: np.ndarray) -> None:
    """The windows of some images on a grid.

    Args:
        codes: int8 [N, C, H, W], contiguous.
        stride: Stride along rows and columns.
        grid: The grid, of T taps.
        out: int8 [C T, L], contiguous, written; L is at least the places of N images.
    """
    plane_length = grid.plane_length(out.shape[1])
    _shifted_rows(codes, stride, grid.planes, plane_length, grid.lead, grid.first, grid.size, grid.taps, out)


@cached()
def _one_sided(weight, largest):
    for row in range(weight.shape[0]):
        total, magnitude = np.int64(0), np.int64(0)
        for k in range(weight.shape[1]):
            total += np.int64(weight[row, k])
            magnitude += abs(np.int64(weight[row, k]))
        # The positive codes sum to (magnitude + total) / 2, the negative ones to (magnitude - total) / 2.
        largest = max(largest, (magnitude + abs(total)) // 2)
    return largest


def largest_one_sided_sum(weight: np.ndarray) -> int:
    """The largest sum of positive codes, or of magnitudes of negative ones, in a row of int8 [O, K]."""
    return int(_one_sided(weight, 0))
