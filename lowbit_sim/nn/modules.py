"""Emulated layers: drop-in subclasses of torch's own, with the same parameters and state_dict."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.nn.emulation import EmulatedLayer, eager, next_call
from lowbit_sim.nn.learned import with_learned_steps
from lowbit_sim.ops.contraction import Contraction
from lowbit_sim.ops.conv import ConvContraction, conv
from lowbit_sim.ops.conv_transpose import TransposedConvContraction, conv_transpose
from lowbit_sim.ops.im2col import Window, resolve_padding
from lowbit_sim.ops.linear import MatrixContraction, linear


class Linear(EmulatedLayer, nn.Linear):
    """`torch.nn.Linear` with emulated GEMMs."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]; see `ops.linear`."""
        return eager(_linear, self, input)


class Conv1d(EmulatedLayer, nn.Conv1d):
    """`torch.nn.Conv1d` with emulated GEMMs."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, W] to [N, O, OW]; see `ops.conv`."""
        return eager(_conv, self, input)


class Conv2d(EmulatedLayer, nn.Conv2d):
    """`torch.nn.Conv2d` with emulated GEMMs."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, O, OH, OW]; see `ops.conv`."""
        return eager(_conv, self, input)


class Conv3d(EmulatedLayer, nn.Conv3d):
    """`torch.nn.Conv3d` with emulated GEMMs."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, D, H, W] to [N, O, OD, OH, OW]; see `ops.conv`."""
        return eager(_conv, self, input)


class ConvTranspose1d(EmulatedLayer, nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d` with emulated GEMMs."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, C, W] to [N, O, OW]; see `ops.conv_transpose`."""
        return eager(_conv_transpose, self, input, output_size)


class ConvTranspose2d(EmulatedLayer, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` with emulated GEMMs."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, C, H, W] to [N, O, OH, OW]; see `ops.conv_transpose`."""
        return eager(_conv_transpose, self, input, output_size)


class ConvTranspose3d(EmulatedLayer, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` with emulated GEMMs."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, C, D, H, W] to [N, O, OD, OH, OW]; see `ops.conv_transpose`."""
        return eager(_conv_transpose, self, input, output_size)


def _linear(layer: Linear, x: Tensor) -> Tensor:
    at = next_call(layer)
    x, weight = with_learned_steps(layer, x, layer.weight, at)
    return linear(x, weight, layer.bias, layer.emulation.op_spec, at)


def native_contraction(layer: nn.Module, x: Tensor, y: Tensor) -> Contraction | None:
    """The layout of the GEMMs that a native linear layer or convolution runs for an input x and its output y.

    Returns:
        None for any other kind of layer.
    """
    if isinstance(layer, nn.Linear):
        columns, inner = layer.weight.shape
        return MatrixContraction(rows=x.shape[:-1].numel(), columns=columns, inner=inner)
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return None
    inside, outside = (t.shape if t.ndim == layer.weight.ndim else (1, *t.shape) for t in (x, y))
    weight = tuple(layer.weight.shape)
    if layer.transposed:
        window = _window(layer, layer.padding)
        inverse = ConvContraction(x_shape=tuple(outside), w_shape=weight, window=window)
        return TransposedConvContraction(inverse=inverse)
    return ConvContraction(x_shape=tuple(inside), w_shape=weight, window=_window(layer, layer.padding))


def _window(layer: Any, padding: str | tuple[int, ...]) -> Window:
    """A layer's geometry with the zeros that its operator adds."""
    return Window(
        kernel=layer.kernel_size,
        stride=layer.stride,
        dilation=layer.dilation,
        padding=resolve_padding(padding, layer.kernel_size, layer.dilation),
        groups=layer.groups,
    )


def _conv(layer: Conv1d | Conv2d | Conv3d, x: Tensor) -> Tensor:
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), "valid"
    at = next_call(layer)
    x, weight = with_learned_steps(layer, x, layer.weight, at)
    return conv(x, weight, layer.bias, _window(layer, padding), layer.emulation.op_spec, at)


def _conv_transpose(
    layer: ConvTranspose1d | ConvTranspose2d | ConvTranspose3d, x: Tensor, output_size: list[int] | None
) -> Tensor:
    window = _window(layer, layer.padding)
    # torch's own arithmetic of output_size; `output_padding` itself where none is asked for.
    extra = layer._output_padding(
        x,
        output_size,
        list(layer.stride),
        [int(zeros) for zeros in layer.padding],
        list(layer.kernel_size),
        window.axes,
        list(layer.dilation),
    )
    at = next_call(layer)
    x, weight = with_learned_steps(layer, x, layer.weight, at)
    return conv_transpose(x, weight, layer.bias, window, extra, layer.emulation.op_spec, at)
