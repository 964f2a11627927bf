"""The one differentiable operator: three GEMMs, each emulated or native, whatever their layout.

Linear layers, convolutions, their transposes and products of activations differ in their `Contraction` alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.billing import kept_bytes
from lowbit_sim.ops.capture import CapturedGemm, capturing, keep
from lowbit_sim.ops.contraction import Contraction
from lowbit_sim.ops.events import emit_native
from lowbit_sim.ops.operand import CallSite, Operands, gradient_operands, kept, operands, stored_bytes
from lowbit_sim.ops.product import product
from lowbit_sim.trace import Role, recording


def emulated(x: Tensor, weight: Tensor, layout: Contraction, spec: OpSpec, at: CallSite) -> Tensor:
    """y of an operator, float32, differentiable in x and weight by the GEMMs of `spec`.

    Args:
        x: The input, floating point; computed in float32.
        weight: The weight, or the second factor of a product.
        layout: How the operator lays its tensors out.
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Raises:
        ValueError: A scale that varies along a GEMM's reduction.
        NotANumberError: NaN in an operand.
        RuntimeError: A CUDA graph is being recorded.
    """
    refuse_graph(x, at)
    if (
        not torch.is_grad_enabled()
    ):  # torch.autograd.Function can't tell: nothing is kept for a backward pass then
        x, weight = x.detach(), weight.detach()
    # Autocast would run native GEMMs in bfloat16; the numerics are the spec's alone.
    with no_autocast(x.device):
        y = _Emulated.apply(x.to(torch.float32), weight.to(torch.float32), layout, spec, at)
    assert isinstance(y, Tensor)
    return y


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast off; tensors without data, which only tell shapes, have none, and torch refuses to name it."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def refuse_graph(x: Tensor, at: CallSite) -> None:
    """Refuse to be recorded into a CUDA graph.

    A graph replays the kernels of one pass without the host. An emulated layer asks the host in every pass: whether
    an operand holds NaN, and whether the bound that proves a product exact holds for these operands.

    Raises:
        RuntimeError: x's stream is being captured; the message names the layer.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"layer {at.layer!r} is emulated and can't be recorded into a CUDA graph: each pass reads on the host "
            "whether its operands hold NaN and which product is proven exact for them. Record native layers alone, "
            "or run the model without a graph"
        )


class _Emulated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, layout: Contraction, spec: OpSpec, at: CallSite
    ) -> Tensor:
        ctx.layout, ctx.spec, ctx.at = layout, spec, at
        qx: Operands | None = None
        qw: Operands | None = None
        if spec.output is not None:
            qx = operands(x, spec.output, "output", "lhs", at)
            qw = operands(weight, spec.output, "output", "rhs", at)
        ctx.input = kept(qx, spec.output, "lhs", spec.grad_weight)
        ctx.weight = kept(qw, spec.output, "rhs", spec.grad_input)
        size = _kept_size(ctx, x, weight) if recording() else 0
        if qx is None or qw is None or spec.output is None:
            y = _native(layout, "output", x, weight, at, size)
        else:
            y = product(layout, "output", spec.output, qx, qw, at, size)
        ctx.save_for_backward(None if ctx.input else x, None if ctx.weight else weight)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:  # type: ignore[override]
        refuse_second_derivative(ctx.at)
        with no_autocast(g.device):
            return *_gradients(ctx, g), None, None, None


def refuse_second_derivative(at: CallSite) -> None:
    """Refuse a backward pass whose own gradient is asked for.

    Emulated gradients are rounded, and have no derivative of their own; torch's `once_differentiable` would pass them
    off as constants wherever the incoming gradient is one.

    Raises:
        RuntimeError: The backward pass records a graph (`create_graph=True`); the message names the layer.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"layer {at.layer!r} is emulated: its gradients are rounded and can't be differentiated again "
            "(create_graph=True). Keep the layer native where a loss contains gradients"
        )


def _gradients(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the input and of the weight, each if needed."""
    x, weight = ctx.saved_tensors
    layout, spec, at, needed = ctx.layout, ctx.spec, ctx.at, ctx.needs_input_grad
    for_input, for_weight = gradient_operands(g, spec, needed, at)
    grad_input = grad_weight = None
    if for_input is not None:
        qw = ctx.weight or operands(weight, spec.grad_input, "grad_input", "rhs", at)
        grad_input = product(layout, "grad_input", spec.grad_input, for_input, qw, at)
    elif needed[0]:
        grad_input = _native(layout, "grad_input", g, weight, at)
    if for_weight is not None:
        qx = ctx.input or operands(x, spec.grad_weight, "grad_weight", "rhs", at)
        grad_weight = product(layout, "grad_weight", spec.grad_weight, for_weight, qx, at)
    elif needed[1]:
        grad_weight = _native(layout, "grad_weight", g, x, at)
    return grad_input, grad_weight


def _kept_size(ctx: Any, x: Tensor, weight: Tensor) -> int:
    """Bytes that stay until the backward pass: the input's codes or the input, and the codes of the weight.

    The second factor of a product of activations is no parameter, so it counts as an input does.
    """
    size = 0
    if ctx.needs_input_grad[1]:
        size += stored_bytes(ctx.input) if ctx.input else kept_bytes(x)
    if ctx.needs_input_grad[0]:
        if ctx.weight:
            size += stored_bytes(ctx.weight)
        elif ctx.at.activations:
            size += kept_bytes(weight)
    return size


def _native(
    layout: Contraction, role: Role, lhs: Tensor | None, rhs: Tensor | None, at: CallSite, kept_size: int = 0
) -> Tensor:
    emit_native(layout, role, at, kept_size)
    assert lhs is not None
    assert rhs is not None
    y = layout.native(role, lhs, rhs)
    if capturing():
        # Copies: the optimiser changes weights in place, and modules change activations.
        left, right, result = (t.detach().clone() for t in (lhs, rhs, y))
        keep(CapturedGemm(layer=at.layer, role=role, spec=None, lhs=(left,), rhs=(right,), result=result))
    return y
