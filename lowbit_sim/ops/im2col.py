"""A convolution's windows as matrices of codes.

The reduction runs over (kernel row, kernel column, channel), channels innermost, as a channels-last im2col
feeds an array. Padding contributes zeros in their place, and so do the rows and columns that a stride skips
in the gradient of the input: an accumulator sees them, though they never change it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.trace import ConvGeometry

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The geometry of a 2-d convolution.

    Args:
        kernel: Kernel height and width.
        stride: Vertical and horizontal stride.
        dilation: Vertical and horizontal dilation.
        padding: Zeros at (top, bottom, left, right).
        groups: Groups of channels.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def span(self) -> Pair:
        """Height and width that a dilated kernel covers, less one."""
        return (self.kernel[0] - 1) * self.dilation[0], (self.kernel[1] - 1) * self.dilation[1]

    def output_size(self, height: int, width: int) -> Pair:
        """Height and width of the output; not positive if the kernel does not fit."""
        top, bottom, left, right = self.padding
        tall = (height + top + bottom - self.span[0] - 1) // self.stride[0] + 1
        wide = (width + left + right - self.span[1] - 1) // self.stride[1] + 1
        return tall, wide


def resolve_padding(padding: str | Pair, kernel: Pair, dilation: Pair) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of torch's padding argument; "same" puts the odd zero at the end, as torch does."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        tall, wide = ((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
        return (tall // 2, tall - tall // 2, wide // 2, wide - wide // 2)
    assert not isinstance(padding, str)
    return (padding[0], padding[0], padding[1], padding[1])


def geometry(x_shape: torch.Size, out_channels: int, window: Window) -> ConvGeometry:
    """The trace's description of a convolution of an input [N, C, H, W]."""
    batch, channels, height, width = x_shape
    out_height, out_width = window.output_size(height, width)
    return ConvGeometry(
        batch=batch,
        in_channels=channels,
        in_height=height,
        in_width=width,
        out_channels=out_channels,
        out_height=out_height,
        out_width=out_width,
        kernel_height=window.kernel[0],
        kernel_width=window.kernel[1],
        stride=window.stride,
        dilation=window.dilation,
        groups=window.groups,
    )


def _windows(padded: Tensor, window: Window, stride: Pair, size: Pair) -> Tensor:
    """All windows of a contiguous [N, H, W, C], as a strided view [N, OH, OW, R, S, C]."""
    n, h, w, c = padded.stride()
    (sh, sw), (dh, dw) = stride, window.dilation
    shape = (padded.shape[0], *size, *window.kernel, padded.shape[3])
    return padded.as_strided(shape, (n, h * sh, w * sw, h * dh, w * dw, c))


def _by_group(columns: Tensor, groups: int) -> list[Tensor]:
    """[N, OH, OW, R, S, C] as `groups` matrices [N OH OW, R S C/groups]."""
    return [part.flatten(3).flatten(0, 2) for part in columns.chunk(groups, dim=5)]


def input_windows(x: Tensor, window: Window) -> list[Tensor]:
    """The windows of integers x [N, C, H, W]: for each group [N OH OW, R S C/groups]."""
    top, bottom, left, right = window.padding
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, right, top, bottom)).contiguous()
    size = window.output_size(x.shape[2], x.shape[3])
    return _by_group(_windows(padded, window, window.stride, size), window.groups)


def gradient_windows(g: Tensor, window: Window, height: int, width: int) -> list[Tensor]:
    """For each input position the output gradients that it reaches: for each group [N H W, R S O/groups].

    Input row h meets kernel row r in output row (h + top - r dilation) / stride, where that is a whole number
    inside the output, and zero elsewhere.

    Args:
        g: Integers [N, O, OH, OW].
        window: The forward convolution.
        height: Height of the input.
        width: Width of the input.
    """
    (sh, sw), (tall, wide) = window.stride, window.span
    top, _, left, _ = window.padding
    n, channels, out_height, out_width = g.shape
    spread = g.new_zeros(n, (out_height - 1) * sh + 1, (out_width - 1) * sw + 1, channels)
    spread[:, ::sh, ::sw] = g.permute(0, 2, 3, 1)
    # Input row h and flipped kernel row r' read row h + r' dilation of this; negative padding crops.
    before_h, before_w = tall - top, wide - left
    after_h = height + tall - before_h - spread.shape[1]
    after_w = width + wide - before_w - spread.shape[2]
    padded = F.pad(spread, (0, 0, before_w, after_w, before_h, after_h)).contiguous()
    windows = _windows(padded, window, (1, 1), (height, width)).flip(3, 4)
    return _by_group(windows, window.groups)
