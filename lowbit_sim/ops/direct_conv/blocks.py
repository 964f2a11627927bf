"""The library's convolution, a few images at a time: codes to channels-last order, multiplied, sums back.

A block's codes and sums stay in the second-level cache between the three steps. What is written to memory is the
result alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.numerics.memory import empty
from lowbit_sim.ops.contraction import BoundedCodes
from lowbit_sim.ops.direct_conv.library import Geometry, convolve, fits_float32, pack
from lowbit_sim.ops.direct_conv.soundness import is_sound
from lowbit_sim.ops.im2col import Sizes, Window

#: Bytes of sums that are worked on at a time.
_BLOCK_BYTES = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an image's codes lie among zeros.

    Attributes:
        spread: Distance of two neighbours along rows and columns.
        before: Zeros before rows and columns; a negative number crops.
        after: Zeros after them, likewise.
    """

    spread: Sizes
    before: Sizes
    after: Sizes

    def size(self, have: Sizes) -> Sizes:
        """Spatial size of the whole."""
        edges = zip(have, self.spread, self.before, self.after, strict=True)
        return tuple((n - 1) * s + 1 + b + a for n, s, b, a in edges)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How a batch is split; all blocks but the last have the first geometry."""

    usual: Geometry
    last: Geometry
    size: Sizes
    place: tuple[int, ...]
    out_size: Sizes
    blocks: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=4096)
def _plan(shape: Sizes, placement: Placement, w_shape: Sizes, window: Window, threads: int) -> _Plan | None:
    """None where the library's convolution is not exact here."""
    batch, channels = shape[:2]
    size = placement.size(shape[2:])
    if min(size) < 1:
        return None
    out_size = replace(window, padding=(0,) * 4).output_size(*size)
    images = min(max(_BLOCK_BYTES // (4 * w_shape[0] * math.prod(out_size)), 1), batch)
    blocks = tuple((start, min(start + images, batch)) for start in range(0, batch, images))
    usual, last = (
        Geometry(
            x_shape=(stop - start, channels, *size),
            w_shape=w_shape,
            stride=window.stride,
            dilation=window.dilation,
            groups=window.groups,
        )
        for start, stop in (blocks[0], blocks[-1])
    )
    if not (is_sound(usual) and is_sound(last)):
        return None
    place = (*placement.before, *placement.spread)
    return _Plan(usual=usual, last=last, size=size, place=place, out_size=out_size, blocks=blocks)


def convolution(
    x: BoundedCodes, placement: Placement, w: Tensor, scale: Tensor, window: Window
) -> Tensor | None:
    """fp32(sums) * scale of codes [N, C, H, W] among zeros and kernels w; None where the library is not exact.

    Args:
        x: The codes.
        placement: Where they lie; it stands for the window's padding.
        w: int8 [O, C/groups, R, S], contiguous.
        scale: float32, one for all or [1, O, 1, 1].
        window: Stride, dilation and groups.
    """
    from lowbit_sim.ops.direct_conv import layout_kernel

    out_channels, zero_point = w.shape[0], _zero_point(x.largest)
    one_each = scale.numel() == 1 or scale.numel() == scale.shape[1] == out_channels
    if not one_each or not fits_float32(w, x.largest, zero_point):
        return None
    plan = _plan(tuple(x.codes.shape), placement, tuple(w.shape), window, torch.get_num_threads())
    if plan is None:
        return None
    batch, channels = x.codes.shape[:2]
    y = empty((batch, out_channels, *plan.out_size), torch.float32, w.device)
    codes, results = x.codes.numpy(), y.flatten(2).numpy()
    channels_last = np.empty((plan.blocks[0][1], *plan.size, channels), dtype=np.int8)
    places = torch.from_numpy(channels_last).view(torch.uint8).permute(0, 3, 1, 2)
    packed, each = pack(w, zero_point, plan.usual), scale.reshape(-1).expand(out_channels).contiguous()
    layout_kernel.share(results[: plan.blocks[0][1]].size)
    for start, stop in plan.blocks:
        n = stop - start
        layout_kernel.channels_last(codes[start:stop], zero_point, plan.place, channels_last[:n])
        geometry = plan.last if stop == batch else plan.usual
        sums = convolve(places[:n], zero_point, packed, each, geometry)
        rows = sums.permute(0, 2, 3, 1).reshape(n, -1, out_channels)
        layout_kernel.channels_first(rows.numpy(), results[start:stop])
    return y


def _zero_point(largest: int) -> int:
    """The smallest power of two that makes no code negative."""
    return 1 << (largest - 1).bit_length()
