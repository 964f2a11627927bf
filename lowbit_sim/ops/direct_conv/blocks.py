"""The library's convolution, a few images at a time: codes to channels-last order, multiplied, sums back.

A block's codes and sums stay in the second-level cache between the three steps. What is written to memory is the
result alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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
    out_size: Sizes
    blocks: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=4096)
def _plan(shape: Sizes, size: Sizes, w_shape: Sizes, window: Window, threads: int) -> _Plan | None:
    """None where the library's convolution is not exact here."""
    batch, channels = shape[:2]
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
    sound = is_sound(usual) and is_sound(last)
    return _Plan(usual=usual, last=last, out_size=out_size, blocks=blocks) if sound else None


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
    size = placement.size(tuple(x.codes.shape[2:]))
    if min(size) < 1 or not one_each or not fits_float32(w, x.largest, zero_point):
        return None
    plan = _plan(tuple(x.codes.shape), size, tuple(w.shape), window, torch.get_num_threads())
    if plan is None:
        return None
    y = x.codes.new_empty(len(x.codes), out_channels, *plan.out_size, dtype=torch.float32)
    codes, results = x.codes.numpy(), y.flatten(2).numpy()
    block_shape = (plan.blocks[0][1], *size, x.codes.shape[1])
    channels_last = x.codes.new_empty(block_shape, dtype=torch.uint8).fill_(zero_point)
    place = (*placement.before, *placement.spread)
    packed, each = pack(w, zero_point, plan.usual), scale.reshape(-1).expand(out_channels).contiguous()
    layout_kernel.share(y[: plan.blocks[0][1]].numel())
    for start, stop in plan.blocks:
        block = channels_last[: stop - start]
        layout_kernel.channels_last(codes[start:stop], zero_point, place, block.view(torch.int8).numpy())
        geometry = plan.last if stop == len(codes) else plan.usual
        sums = convolve(block.movedim(-1, 1), zero_point, packed, each, geometry)
        layout_kernel.channels_first(sums.movedim(1, -1).flatten(1, 2).numpy(), results[start:stop])
    return y


def _zero_point(largest: int) -> int:
    """The smallest power of two that makes no code negative."""
    return 1 << (largest - 1).bit_length()
