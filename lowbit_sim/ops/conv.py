"""Convolutions over one, two or three spatial axes, with their three GEMMs emulated.

| role        | M            | N         | K (in this order, last one innermost)        |
|-------------|--------------|-----------|----------------------------------------------|
| output      | N outputs    | O         | kernel row, kernel column, input channel     |
| grad_input  | N positions  | C         | kernel row, kernel column, output channel    |
| grad_weight | O            | R S C     | sample, output row, output column            |

for two axes; one axis more or less is a kernel, position and output axis more or less. A grouped convolution is one
GEMM for each group. Bias and its gradient stay in float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.bias import add_bias
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.contraction import BoundedCodes, Side
from lowbit_sim.ops.direct_conv.sums import scaled_sums
from lowbit_sim.ops.emulated import emulated
from lowbit_sim.ops.im2col import (
    Sizes,
    Window,
    geometry,
    gradient_windows,
    input_windows,
    input_windows_by_column,
    pad,
)
from lowbit_sim.ops.linear import check_floating
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.trace import ConvGeometry, Role


@dataclass(frozen=True, kw_only=True)
class ConvContraction:
    """x [N, C, *size] and w [O, C/groups, *kernel] to y [N, O, *output size].

    Args:
        x_shape: Shape of the input.
        w_shape: Shape of the weight.
        window: The geometry.
    """

    x_shape: Sizes
    w_shape: Sizes
    window: Window

    @property
    def count(self) -> int:
        """One GEMM for each group."""
        return self.window.groups

    @property
    def output_size(self) -> Sizes:
        """Spatial size of y."""
        return self.window.output_size(*self.x_shape[2:])

    @property
    def conv(self) -> ConvGeometry | None:
        """The geometry, for the trace."""
        return geometry(self.x_shape, self.w_shape[0], self.window)

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(M, N, K) of one group's GEMM."""
        return _sizes(self, role)

    def matrices(self, role: Role, side: Side, tensor: Tensor) -> list[Tensor]:
        """Unfolded inputs and gradients; weights with the kernel's axes first."""
        window, groups = self.window, self.window.groups
        match role, side:
            case "output", "lhs":
                return input_windows(tensor, window)
            case "output", "rhs":  # [*kernel, C/groups, O]
                parts = tensor.movedim((0, 1), (-1, -2)).chunk(groups, dim=-1)
                return [part.flatten(0, -2) for part in parts]
            case "grad_input", "lhs":
                return gradient_windows(tensor, window, *self.x_shape[2:])
            case "grad_input", "rhs":  # [*kernel, O/groups, C/groups] of each group
                parts = tensor.movedim((0, 1), (-2, -1)).chunk(groups, dim=-2)
                return [part.flatten(0, -2) for part in parts]
            case "grad_weight", "lhs":  # [O/groups, N output size]
                return [part.flatten(1) for part in tensor.movedim(1, 0).chunk(groups, dim=0)]
            case _:
                return (input_windows_by_column if tensor.is_cuda else input_windows)(tensor, window)

    def assemble(self, role: Role, parts: Sequence[Tensor]) -> Tensor:
        """y, grad_input or grad_weight; contiguous, as torch's own are: models call view() on them."""
        batch, channels = self.x_shape[:2]
        match role:
            case "output":
                rows = torch.cat(list(parts), dim=1).reshape(batch, *self.output_size, self.w_shape[0])
            case "grad_input":
                rows = torch.cat(list(parts), dim=1).reshape(batch, *self.x_shape[2:], channels)
            case _:
                out_channels, inner, *kernel = self.w_shape
                rows = torch.cat(list(parts), dim=0).reshape(out_channels, *kernel, inner)
        return rows.movedim(-1, 1).contiguous()

    def together(self, role: Role, side: Side) -> int:
        """The channels of a position in windows, which overlap; along positions, in grad_weight, no two elements."""
        if math.prod(self.window.kernel) == 1:
            return self.sizes(role)[2]
        match role, side:
            case "output", "lhs":
                return self.w_shape[1]
            case "grad_input", "lhs":
                return self.w_shape[0] // self.window.groups
            case "grad_weight", "rhs":
                return 1
            case _:
                return self.sizes(role)[2]

    def reduced(self, role: Role, side: Side) -> Sequence[int]:
        """All axes but the one that rows or columns of the result run along."""
        kept = {("grad_input", "rhs"): 1, ("grad_weight", "lhs"): 1, ("grad_weight", "rhs"): 1}.get(
            (role, side), 0
        )
        return [axis for axis in range(2 + self.window.axes) if axis != kept]

    def scale(self, role: Role, side: Side, scale: Tensor) -> Tensor:
        """The scale against y [N, O, ...], x [N, C, ...] or w [O, C/groups, ...]."""
        match role, side:
            case ("output", "rhs") | ("grad_weight", "lhs"):
                return scale.movedim(0, 1)
            case "grad_input", "rhs":
                # A scale for each input channel of a group holds for that channel of every group.
                repeats = (1, self.window.groups) + (1,) * self.window.axes
                return scale if scale.shape[1] == 1 else scale.repeat(repeats)
            case "grad_weight", "rhs":
                return self._by_group(scale)
            case _:
                return scale

    def _by_group(self, scale: Tensor) -> Tensor:
        """An input's scale [1, C or 1, ...] laid out against a weight [O, C/groups, ...]."""
        if scale.shape[1] == 1:
            return scale
        groups = self.window.groups
        rows = scale.reshape(groups, -1).repeat_interleave(self.w_shape[0] // groups, dim=0)
        return rows.reshape(*rows.shape, *(1,) * self.window.axes)

    def scaled_sums(self, role: Role, lhs: BoundedCodes, rhs: BoundedCodes, scale: Tensor) -> Tensor | None:
        """By `direct_conv`, for two spatial axes."""
        if self.window.axes != 2:
            return None
        return scaled_sums(role, lhs, rhs, scale, self.x_shape, self.w_shape, self.window)

    def native(self, role: Role, lhs: Tensor, rhs: Tensor) -> Tensor:
        """torch's convolution and its gradients."""
        window = self.window
        stride, dilation, none = list(window.stride), list(window.dilation), [0] * window.axes
        if role == "output":
            padded = pad(lhs, window.before, window.after, channels_last=False)
            return torch.convolution(padded, rhs, None, stride, none, dilation, False, none, window.groups)
        # The gradient of the input does not depend on the input's values, nor that of the weight on the weight's.
        x = lhs.new_empty(self.x_shape) if role == "grad_input" else rhs
        w = rhs if role == "grad_input" else lhs.new_empty(self.w_shape)
        padded = pad(x, window.before, window.after, channels_last=False)
        mask = [role == "grad_input", role == "grad_weight", False]
        grads = torch.ops.aten.convolution_backward(
            lhs, padded, w, None, stride, none, dilation, False, none, window.groups, mask
        )
        if role == "grad_weight":
            return grads[1]
        crop = pad(grads[0], [-n for n in window.before], [-n for n in window.after], channels_last=False)
        return crop.contiguous()


@functools.lru_cache(maxsize=4096)
def _sizes(layout: ConvContraction, role: Role) -> tuple[int, int, int]:
    out_channels, channels, *kernel = layout.w_shape
    out_channels //= layout.window.groups
    taps, outputs = math.prod(kernel), layout.x_shape[0] * math.prod(layout.output_size)
    match role:
        case "output":
            return outputs, out_channels, taps * channels
        case "grad_input":
            return layout.x_shape[0] * math.prod(layout.x_shape[2:]), channels, taps * out_channels
        case _:
            return out_channels, taps * channels, outputs


@bills_itself
def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, spec: OpSpec, at: CallSite = CallSite()
) -> Tensor:
    """The emulated `torch.nn.functional.conv1d`, `conv2d` or `conv3d`, by the window's number of axes.

    Args:
        x: Floating point [N, C, *size] or [C, *size]; computed in float32, the result has x's dtype.
        weight: [O, C/groups, *kernel].
        bias: [O] or None; added in float32.
        window: Kernel, stride, dilation, padding and groups.
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Returns:
        [N, O, *output size] or [O, *output size].

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: Shapes that don't fit, or a scale that varies along a GEMM's reduction.
        NotANumberError: NaN in an operand.
    """
    check_floating(x, at.layer)
    _check_shapes(x, weight, window, at.layer)
    batched = x.ndim == window.axes + 2
    batch = x if batched else x[None]
    layout = ConvContraction(x_shape=tuple(batch.shape), w_shape=tuple(weight.shape), window=window)
    y = emulated(batch, weight, layout, spec, at)
    y = add_bias(y, bias, window.axes, at.layer)
    return (y if batched else y[0]).to(x.dtype)


def _check_shapes(x: Tensor, weight: Tensor, window: Window, layer: str) -> None:
    channels, axes = weight.shape[1] * window.groups, window.axes
    size = ", ".join("DHW"[3 - axes :])
    if x.ndim not in (axes + 1, axes + 2) or x.shape[-axes - 1] != channels:
        raise ValueError(
            f"layer {layer!r} takes [N, {channels}, {size}] or [{channels}, {size}] for weight "
            f"{list(weight.shape)} and {window.groups} groups, got {list(x.shape)}"
        )
    if min(window.output_size(*x.shape[-axes:])) < 1:
        order = "top, bottom, left, right" if axes == 2 else "before, after each axis"
        raise ValueError(
            f"layer {layer!r}: kernel {window.kernel} with dilation {window.dilation} does not fit into input "
            f"{list(x.shape)} with padding {window.padding} ({order})"
        )
