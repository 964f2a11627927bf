"""A 2-d convolution with its three GEMMs emulated.

| role        | M        | N        | K (in this order, last one innermost)       |
|-------------|----------|----------|---------------------------------------------|
| output      | N OH OW  | O        | kernel row, kernel column, input channel    |
| grad_input  | N H W    | C        | kernel row, kernel column, output channel   |
| grad_weight | O        | R S C    | sample, output row, output column           |

A grouped convolution is one GEMM for each group. Bias and its gradient stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.ops.im2col import Window, geometry, gradient_windows, input_windows
from lowbit_sim.ops.linear import check_floating
from lowbit_sim.ops.operand import (
    CallSite,
    accumulate,
    check_reduction,
    gemm_event,
    gradient_codes,
    kept,
    quantize_operand,
    rescale,
)
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.trace import Role, emit, recording


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, spec: OpSpec, at: CallSite = CallSite()
) -> Tensor:
    """The emulated `torch.nn.functional.conv2d`.

    Args:
        x: Floating point [N, C, H, W] or [C, H, W]; computed in float32, the result has x's dtype.
        weight: [O, C/groups, R, S].
        bias: [O] or None; added in float32.
        window: Kernel, stride, dilation, padding and groups.
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Returns:
        [N, O, OH, OW] or [O, OH, OW].

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: Shapes that don't fit, or a scale that varies along a GEMM's reduction.
        NotANumberError: NaN in an operand.
    """
    check_floating(x, at.layer)
    _check_shapes(x, weight, window, at.layer)
    batch = x if x.ndim == 4 else x[None]
    # Autocast would run native GEMMs in bfloat16; the numerics are the spec's alone.
    with torch.autocast(x.device.type, enabled=False):
        y = _Conv2d.apply(batch.to(torch.float32), weight.to(torch.float32), window, spec, at)
    assert isinstance(y, Tensor)
    if bias is not None:
        y = y + bias.to(torch.float32)[:, None, None]
    return (y if x.ndim == 4 else y[0]).to(x.dtype)


def _check_shapes(x: Tensor, weight: Tensor, window: Window, layer: str) -> None:
    channels = weight.shape[1] * window.groups
    if x.ndim not in (3, 4) or x.shape[-3] != channels:
        raise ValueError(
            f"layer {layer!r} takes [N, {channels}, H, W] or [{channels}, H, W] for weight {list(weight.shape)} "
            f"and {window.groups} groups, got {list(x.shape)}"
        )
    if min(window.output_size(x.shape[-2], x.shape[-1])) < 1:
        raise ValueError(
            f"layer {layer!r}: kernel {window.kernel} with dilation {window.dilation} does not fit into input "
            f"{list(x.shape)} with padding {window.padding} (top, bottom, left, right)"
        )


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, window: Window, spec: OpSpec, at: CallSite) -> Tensor:
        ctx.spec, ctx.at, ctx.window, ctx.x_shape, ctx.w_shape = spec, at, window, x.shape, weight.shape
        if spec.output is None:
            qx = qw = None
            y = _native_output(x, weight, window, at)
        else:
            qx = quantize_operand(x, spec.output.lhs, "output", "lhs", at)
            qw = quantize_operand(weight, spec.output.rhs, "output", "rhs", at)
            y = _output(qx, qw, spec.output, window, at)
        ctx.input = kept(qx, spec.output, "lhs", spec.grad_weight)
        ctx.weight = kept(qw, spec.output, "rhs", spec.grad_input)
        ctx.save_for_backward(None if ctx.input else x, None if ctx.weight else weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:  # type: ignore[override]
        with torch.autocast(g.device.type, enabled=False):
            return *_gradients(ctx, g), None, None, None


def _gradients(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the input and of the weight, each if needed."""
    x, weight = ctx.saved_tensors
    spec, at, window, needed = ctx.spec, ctx.at, ctx.window, ctx.needs_input_grad
    for_input, for_weight = gradient_codes(g, spec, needed, at)
    grad_input = grad_weight = None
    if for_input is not None:
        qw = ctx.weight or quantize_operand(weight, spec.grad_input.rhs, "grad_input", "rhs", at)
        grad_input = _grad_input(for_input, qw, ctx.x_shape, spec.grad_input, window, at)
    elif needed[0]:
        grad_input = _native_grad_input(g, weight, ctx.x_shape, window, at)
    if for_weight is not None:
        qx = ctx.input or quantize_operand(x, spec.grad_weight.rhs, "grad_weight", "rhs", at)
        grad_weight = _grad_weight(for_weight, qx, ctx.w_shape, spec.grad_weight, window, at)
    elif needed[1]:
        grad_weight = _native_grad_weight(g, x, ctx.w_shape, window, at)
    return grad_input, grad_weight


def _output(qx: QTensor, qw: QTensor, spec: GemmSpec, window: Window, at: CallSite) -> Tensor:
    check_reduction(qx, [1, 2, 3], "output", "lhs", at.layer)
    check_reduction(qw, [1, 2, 3], "output", "rhs", at.layer)
    shape = geometry(qx.shape, qw.shape[0], window)
    kernels = qw.integers().permute(2, 3, 1, 0)  # [R, S, C/groups, O]
    rhs = [part.flatten(0, 2) for part in kernels.chunk(window.groups, dim=3)]
    parts = accumulate(input_windows(qx.integers(), window), rhs, spec, "output", at, shape)
    rows = torch.cat(parts, dim=1).reshape(shape.batch, shape.out_height, shape.out_width, shape.out_channels)
    # Contiguous, as torch's own result is: models call view() on it.
    return rescale(rows.permute(0, 3, 1, 2).contiguous(), qx.scale, qw.scale.permute(1, 0, 2, 3))


def _grad_input(
    qg: QTensor, qw: QTensor, x_shape: torch.Size, spec: GemmSpec, window: Window, at: CallSite
) -> Tensor:
    check_reduction(qg, [1, 2, 3], "grad_input", "lhs", at.layer)
    check_reduction(qw, [0, 2, 3], "grad_input", "rhs", at.layer)
    batch, channels, height, width = x_shape
    lhs = gradient_windows(qg.integers(), window, height, width)
    kernels = qw.integers().permute(2, 3, 0, 1)  # [R, S, O, C/groups]
    rhs = [part.flatten(0, 2) for part in kernels.chunk(window.groups, dim=2)]
    shape = geometry(x_shape, qw.shape[0], window)
    parts = accumulate(lhs, rhs, spec, "grad_input", at, shape)
    rows = torch.cat(parts, dim=1).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    # A scale for each input channel of a group holds for that channel of every group.
    weight_scale = qw.scale if qw.scale.shape[1] == 1 else qw.scale.repeat(1, window.groups, 1, 1)
    return rescale(rows, qg.scale, weight_scale)


def _grad_weight(
    qg: QTensor, qx: QTensor, w_shape: torch.Size, spec: GemmSpec, window: Window, at: CallSite
) -> Tensor:
    check_reduction(qg, [0, 2, 3], "grad_weight", "lhs", at.layer)
    check_reduction(qx, [0, 2, 3], "grad_weight", "rhs", at.layer)
    out_channels, channels, *kernel = w_shape
    gradients = qg.integers().permute(1, 0, 2, 3)  # [O, N, OH, OW]
    lhs = [part.flatten(1) for part in gradients.chunk(window.groups, dim=0)]
    shape = geometry(qx.shape, out_channels, window)
    parts = accumulate(lhs, input_windows(qx.integers(), window), spec, "grad_weight", at, shape)
    rows = torch.cat(parts, dim=0).reshape(out_channels, *kernel, channels).permute(0, 3, 1, 2)
    return rescale(rows, qg.scale.permute(1, 0, 2, 3), _scale_by_group(qx.scale, w_shape, window.groups))


def _scale_by_group(scale: Tensor, w_shape: torch.Size, groups: int) -> Tensor:
    """An input's scale [1, C or 1, 1, 1] laid out against a weight [O, C/groups, R, S]."""
    if scale.shape[1] == 1:
        return scale
    return scale.reshape(groups, -1).repeat_interleave(w_shape[0] // groups, dim=0)[:, :, None, None]


def _padded(x: Tensor, window: Window) -> Tensor:
    top, bottom, left, right = window.padding
    return F.pad(x, (left, right, top, bottom))


def _native_output(x: Tensor, weight: Tensor, window: Window, at: CallSite) -> Tensor:
    _emit_native("output", x.shape, weight.shape, window, at)
    return F.conv2d(_padded(x, window), weight, None, window.stride, 0, window.dilation, window.groups)


def _native_backward(
    g: Tensor, x: Tensor, weight: Tensor, window: Window, mask: list[bool]
) -> tuple[Tensor, ...]:
    stride, dilation = list(window.stride), list(window.dilation)
    return torch.ops.aten.convolution_backward(
        g, _padded(x, window), weight, None, stride, [0, 0], dilation, False, [0, 0], window.groups, mask
    )


def _native_grad_input(
    g: Tensor, weight: Tensor, x_shape: torch.Size, window: Window, at: CallSite
) -> Tensor:
    _emit_native("grad_input", x_shape, weight.shape, window, at)
    # The gradient of the input does not depend on the input's values, only on its shape.
    grad, *_ = _native_backward(g, g.new_empty(x_shape), weight, window, [True, False, False])
    top, _, left, _ = window.padding
    return grad[:, :, top : top + x_shape[2], left : left + x_shape[3]].contiguous()


def _native_grad_weight(g: Tensor, x: Tensor, w_shape: torch.Size, window: Window, at: CallSite) -> Tensor:
    _emit_native("grad_weight", x.shape, w_shape, window, at)
    return _native_backward(g, x, g.new_empty(w_shape), window, [False, True, False])[1]


def _emit_native(role: Role, x_shape: torch.Size, w_shape: torch.Size, window: Window, at: CallSite) -> None:
    if recording():
        sizes = gemm_sizes(role, x_shape, w_shape, window)
        shape = geometry(x_shape, w_shape[0], window)
        emit(gemm_event(role, sizes, None, at.layer, window.groups, shape))


def gemm_sizes(role: Role, x_shape: torch.Size, w_shape: torch.Size, window: Window) -> tuple[int, int, int]:
    """(M, N, K) of one group's GEMM of a role, for an input [N, C, H, W] and a weight [O, C/groups, R, S]."""
    batch, _, height, width = x_shape
    out_channels, channels, *kernel = w_shape
    out_channels //= window.groups
    taps = kernel[0] * kernel[1]
    tall, wide = window.output_size(height, width)
    match role:
        case "output":
            return batch * tall * wide, out_channels, taps * channels
        case "grad_input":
            return batch * height * width, channels, taps * out_channels
        case "grad_weight":
            return out_channels, taps * channels, batch * tall * wide
        case _:
            raise ValueError(f"{role!r} is not a GEMM of a convolution")
