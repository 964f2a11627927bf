"""y = x w^T + b, with its three GEMMs emulated.

| role        | product | sums over |
|-------------|---------|-----------|
| output      | x w^T   | I         |
| grad_input  | g w     | O         |
| grad_weight | g^T x   | B         |

with x [B, I], w [O, I], g = dL/dy [B, O]. Quantisers pass gradients straight through (with absmax scales nothing
clips, so the straight-through gradient is the whole of it). Bias and its gradient stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lowbit_sim.arith.spec import GemmSpec, OpSpec
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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, spec: OpSpec, at: CallSite = CallSite()) -> Tensor:
    """The emulated `torch.nn.functional.linear`.

    Args:
        x: Floating point [..., I]; computed in float32, the result has x's dtype.
        weight: [O, I].
        bias: [O] or None; added in float32.
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Returns:
        [..., O].

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: Shapes that don't fit, or a scale that varies along a GEMM's reduction.
        NotANumberError: NaN in an operand.
    """
    check_floating(x, at.layer)
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"layer {at.layer!r}: input {list(x.shape)} does not end in the {weight.shape[1]} features of "
            f"weight {list(weight.shape)}"
        )
    rows = x.reshape(x.shape[:-1].numel(), x.shape[-1]).to(torch.float32)  # [B, I]
    # Autocast would run native GEMMs in bfloat16; the numerics are the spec's alone.
    with torch.autocast(x.device.type, enabled=False):
        y = _Linear.apply(rows, weight.to(torch.float32), spec, at)  # [B, O]
    assert isinstance(y, Tensor)
    if bias is not None:
        y = y + bias.to(torch.float32)
    return y.reshape(*x.shape[:-1], weight.shape[0]).to(x.dtype)


def check_floating(x: Tensor, layer: str) -> None:
    """Refuse integer and complex inputs.

    Raises:
        TypeError: Naming the layer and the dtype.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"layer {layer!r} takes a floating-point tensor, got {got}")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, spec: OpSpec, at: CallSite) -> Tensor:
        ctx.spec, ctx.at = spec, at
        if spec.output is None:
            qx = qw = None
            y = F.linear(x, weight)
            _emit_native("output", x.shape[0], weight.shape[0], x.shape[1], at)
        else:
            qx = quantize_operand(x, spec.output.lhs, "output", "lhs", at)
            qw = quantize_operand(weight, spec.output.rhs, "output", "rhs", at)
            y = _product(qx, qw, spec.output, "output", at)
        ctx.input = kept(qx, spec.output, "lhs", spec.grad_weight)
        ctx.weight = kept(qw, spec.output, "rhs", spec.grad_input)
        ctx.save_for_backward(None if ctx.input else x, None if ctx.weight else weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        with torch.autocast(g.device.type, enabled=False):
            return *_gradients(ctx, g), None, None


def _gradients(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the input and of the weight, each if needed."""
    x, weight = ctx.saved_tensors
    spec, at, needed = ctx.spec, ctx.at, ctx.needs_input_grad
    for_input, for_weight = gradient_codes(g, spec, needed, at)
    grad_input = grad_weight = None
    if for_input is not None:
        qw = ctx.weight or quantize_operand(weight, spec.grad_input.rhs, "grad_input", "rhs", at)
        grad_input = _product(for_input, qw, spec.grad_input, "grad_input", at)
    elif needed[0]:
        _emit_native("grad_input", g.shape[0], weight.shape[1], g.shape[1], at)
        grad_input = g @ weight
    if for_weight is not None:
        qx = ctx.input or quantize_operand(x, spec.grad_weight.rhs, "grad_weight", "rhs", at)
        grad_weight = _product(for_weight, qx, spec.grad_weight, "grad_weight", at)
    elif needed[1]:
        _emit_native("grad_weight", g.shape[1], x.shape[1], g.shape[0], at)
        grad_weight = g.t() @ x
    return grad_input, grad_weight


def _product(lhs: QTensor, rhs: QTensor, spec: GemmSpec, role: Role, at: CallSite) -> Tensor:
    """Lay the operands out as [M, K] and [K, N] for a role, multiply, and scale the accumulators."""
    # Which operands are transposed: x w^T, g w, g^T x. The sum runs over the axis that comes to lie inside.
    flip_lhs, flip_rhs = role == "grad_weight", role == "output"
    check_reduction(lhs, [0 if flip_lhs else 1], role, "lhs", at.layer)
    check_reduction(rhs, [1 if flip_rhs else 0], role, "rhs", at.layer)
    a, lhs_scale = (t.t() if flip_lhs else t for t in (lhs.integers(), lhs.scale))
    b, rhs_scale = (t.t() if flip_rhs else t for t in (rhs.integers(), rhs.scale))
    [accumulators] = accumulate([a], [b], spec, role, at)
    return rescale(accumulators, lhs_scale, rhs_scale)


def _emit_native(role: Role, rows: int, columns: int, reduction: int, at: CallSite) -> None:
    if recording():
        emit(gemm_event(role, (rows, columns, reduction), None, at.layer, 1))
