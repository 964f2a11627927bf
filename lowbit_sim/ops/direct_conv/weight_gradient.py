"""The gradient of a convolution's weight from windows of a few images at a time.

The windows [C R S, L] of a block are shifts of its images on a grid (`grid.py`), grad_output [O, L] lies on the same
grid with zeros where no output is, and both are read along L by one library product. Sums of blocks are added in
int32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lowbit_sim.arith.backends.torch_exact import exact_product, int_mm_is_sound
from lowbit_sim.ops.direct_conv.grid import grid_of
from lowbit_sim.ops.im2col import Sizes, Window

#: Bytes of windows that are laid out at a time.
_BLOCK_BYTES = 1 << 21

#: Positions below which adding the blocks' sums costs too much beside their products.
_BLOCK_POSITIONS = 1024


def weight_gradient(g: Tensor, x: Tensor, scale: Tensor, w_shape: Sizes, window: Window) -> Tensor | None:
    """fp32(sums) * scale, float32 [O, C, R, S]; None for groups, or where the library product is not exact.

    Args:
        g: int8 [N, O, H', W'], contiguous.
        x: int8 [N, C, H, W], contiguous.
        scale: float32, broadcasts against the result.
        w_shape: [O, C, R, S].
        window: The geometry.
    """
    from lowbit_sim.ops.direct_conv import layout_kernel

    if window.groups != 1 or not int_mm_is_sound():
        return None
    out_channels, channels, *kernel = w_shape
    grid = grid_of(window, tuple(x.shape[2:]), tuple(g.shape[2:]))
    taps, positions = channels * math.prod(kernel), math.prod(grid.size)
    images = min(max(_BLOCK_BYTES // (taps * positions), -(-_BLOCK_POSITIONS // positions), 1), len(g))
    rows = x.new_empty(taps, images * positions)
    gradients = g.new_empty(out_channels, images * positions)
    layout_kernel.share(rows.numel())
    sums = x.new_zeros(taps, out_channels, dtype=torch.int32)
    for start in range(0, len(g), images):
        stop = min(start + images, len(g))
        if stop - start < images:
            length = (stop - start) * positions
            rows, gradients = rows.new_empty(taps, length), gradients.new_empty(out_channels, length)
        layout_kernel.shifted_rows(x[start:stop].numpy(), window.stride, grid, rows.numpy())
        layout_kernel.shifted_rows(g[start:stop].numpy(), (1, 1), grid.of_positions, gradients.numpy())
        sums += exact_product(rows, gradients.t())
    return _transposed(sums).reshape(w_shape) * scale


def _transposed(sums: Tensor) -> Tensor:
    """A contiguous transpose of an int32 matrix: words are words to the kernel that moves float32."""
    from lowbit_sim.ops.direct_conv import layout_kernel

    out = sums.new_empty(sums.shape[1], sums.shape[0])
    layout_kernel.channels_first(
        sums.view(torch.float32).numpy()[None], out.view(torch.float32).numpy()[None]
    )
    return out
