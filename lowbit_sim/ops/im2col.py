"""A convolution's windows as matrices, for one, two or three spatial axes.

The reduction runs over (kernel positions, channel), the last kernel axis before the channels and the channels
innermost, as a channels-last im2col feeds an array. Padding contributes zeros in their place, and so do the
positions that a stride skips in the gradient of the input: an accumulator sees them, though they never change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.trace import ConvGeometry

Sizes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The geometry of a convolution; every tuple has an entry for each spatial axis.

    Args:
        kernel: Size of the kernel.
        stride: Stride.
        dilation: Dilation.
        padding: Zeros before and after each axis: (top, bottom, left, right) of an image.
        groups: Groups of channels.

    Raises:
        ValueError: Tuples of different lengths.
    """

    kernel: Sizes
    stride: Sizes = (1, 1)
    dilation: Sizes = (1, 1)
    padding: Sizes = (0, 0, 0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        if len(self.stride) != axes or len(self.dilation) != axes or len(self.padding) != 2 * axes:
            raise ValueError(
                f"a kernel of {axes} axes takes as many strides and dilations and twice as many paddings, got "
                f"kernel={self.kernel}, stride={self.stride}, dilation={self.dilation}, padding={self.padding}"
            )

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def span(self) -> Sizes:
        """What a dilated kernel covers of each axis, less one."""
        return tuple((k - 1) * d for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def before(self) -> Sizes:
        """Zeros before each axis."""
        return self.padding[::2]

    @property
    def after(self) -> Sizes:
        """Zeros after each axis."""
        return self.padding[1::2]

    def output_size(self, *size: int) -> Sizes:
        """Spatial size of the output for that of an input; not positive where the kernel does not fit."""
        return tuple(
            (n + self.before[i] + self.after[i] - self.span[i] - 1) // self.stride[i] + 1
            for i, n in enumerate(size)
        )


def resolve_padding(padding: str | Sequence[int], kernel: Sizes, dilation: Sizes) -> Sizes:
    """Zeros before and after each axis from torch's padding argument.

    "same" puts the odd zero at the end, as torch does.
    """
    if padding == "valid":
        return (0, 0) * len(kernel)
    if padding == "same":
        spans = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        return tuple(zeros for span in spans for zeros in (span // 2, span - span // 2))
    assert not isinstance(padding, str)
    return tuple(zeros for each in padding for zeros in (each, each))


def geometry(x_shape: Sequence[int], out_channels: int, window: Window) -> ConvGeometry | None:
    """The trace's description of a convolution of an input [N, C, *size]; None for three spatial axes.

    A convolution along one axis is one of images of height 1.
    """
    if window.axes > 2:
        return None
    lift = (1,) * (2 - window.axes)
    height, width = lift + tuple(x_shape[2:])
    out_height, out_width = lift + window.output_size(*x_shape[2:])
    kernel_height, kernel_width = lift + window.kernel
    vertical, horizontal = lift + window.stride
    down, across = lift + window.dilation
    return ConvGeometry(
        batch=x_shape[0],
        in_channels=x_shape[1],
        in_height=height,
        in_width=width,
        out_channels=out_channels,
        out_height=out_height,
        out_width=out_width,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride=(vertical, horizontal),
        dilation=(down, across),
        groups=window.groups,
    )


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], channels_last: bool) -> Tensor:
    """Zeros around the spatial axes of [N, *size, C] or [N, C, *size]; negative counts crop.

    An axis may be cropped by more than its length on one side, and then zeros of the other side go too.
    """
    zeros = [max(n, 0) for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    padded = F.pad(x, [0, 0, *zeros] if channels_last else zeros)
    first = 1 if channels_last else 2
    for axis, (start, end) in enumerate(zip(before, after, strict=True), start=first):
        left_out = max(-start, 0), max(-end, 0)
        if any(left_out):
            padded = padded.narrow(axis, left_out[0], padded.shape[axis] - sum(left_out))
    return padded


def _windows(padded: Tensor, window: Window, stride: Sizes, size: Sizes) -> Tensor:
    """All windows of a contiguous [N, *padded size, C], as a strided view [N, *size, *kernel, C]."""
    batch, *spatial, channel = padded.stride()
    steps = [s * n for s, n in zip(spatial, stride, strict=True)]
    taps = [s * n for s, n in zip(spatial, window.dilation, strict=True)]
    shape = (padded.shape[0], *size, *window.kernel, padded.shape[-1])
    return padded.as_strided(shape, (batch, *steps, *taps, channel))


def _by_group(columns: Tensor, window: Window) -> list[Tensor]:
    """[N, *size, *kernel, C] as matrices [N size, kernel C/groups], one for each group."""
    axes = window.axes
    return [part.flatten(axes + 1).flatten(0, axes) for part in columns.chunk(window.groups, dim=-1)]


def input_windows(x: Tensor, window: Window) -> list[Tensor]:
    """The windows of x [N, C, *size]: for each group [N output size, kernel C/groups]."""
    padded = pad(x.movedim(1, -1), window.before, window.after, channels_last=True).contiguous()
    return _by_group(_windows(padded, window, window.stride, window.output_size(*x.shape[2:])), window)


def input_windows_by_column(x: Tensor, window: Window) -> list[Tensor]:
    """The matrices of `input_windows`, column by column in memory: as a GPU's integer product reads a right operand.

    Channels come first, so that neighbours along the last spatial axis are read and written as neighbours.
    """
    padded = pad(x, window.before, window.after, channels_last=False).contiguous()
    batch, channel, *spatial = padded.stride()
    steps = [s * n for s, n in zip(spatial, window.stride, strict=True)]
    taps = [s * n for s, n in zip(spatial, window.dilation, strict=True)]
    size = window.output_size(*x.shape[2:])
    shape = (*window.kernel, padded.shape[1], padded.shape[0], *size)
    columns = padded.as_strided(shape, (*taps, channel, batch, *steps))
    axes = window.axes
    return [part.flatten(0, axes).flatten(1).t() for part in columns.chunk(window.groups, dim=axes)]


def gradient_windows(g: Tensor, window: Window, *size: int) -> list[Tensor]:
    """For each input position the output gradients that it reaches: for each group [N size, kernel O/groups].

    Input row h meets kernel row r in output row (h + top - r dilation) / stride, where that is a whole number
    inside the output, and zero elsewhere; so for every axis.

    Args:
        g: [N, O, *output size].
        window: The forward convolution.
        size: Spatial size of the input.
    """
    spread = g.new_zeros(
        g.shape[0], *((n - 1) * s + 1 for n, s in zip(g.shape[2:], window.stride, strict=True)), g.shape[1]
    )
    places = tuple(slice(None, None, s) for s in window.stride)
    spread[(slice(None), *places)] = g.movedim(1, -1)
    # Input row h and flipped kernel row r' read row h + r' dilation of this; negative padding crops.
    before = [span - zeros for span, zeros in zip(window.span, window.before, strict=True)]
    after = [
        n + span - b - have
        for n, span, b, have in zip(size, window.span, before, spread.shape[1:-1], strict=True)
    ]
    padded = pad(spread, before, after, channels_last=True).contiguous()
    windows = _windows(padded, window, (1,) * window.axes, tuple(size))
    first = window.axes + 1
    return _by_group(windows.flip(*range(first, first + window.axes)), window)
