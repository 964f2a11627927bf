"""y = x w^T + b, with its three GEMMs emulated; and the product of two batches of matrices.

| role        | product | sums over |
|-------------|---------|-----------|
| output      | x w^T   | I         |
| grad_input  | g w     | O         |
| grad_weight | g^T x   | B         |

with x [B, I], w [O, I], g = dL/dy [B, O]; in a batched product one such triple for each matrix of the batch.
Quantisers pass gradients straight through (with absmax scales nothing clips, so the straight-through gradient is
the whole of it). Bias and its gradient stay in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lowbit_sim.arith.backends.torch_exact import exact_product
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.bias import add_bias
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.contraction import BoundedCodes, Side
from lowbit_sim.ops.emulated import emulated
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.trace import Role


@dataclass(frozen=True, kw_only=True)
class MatrixContraction:
    """x [*, B, I] and w [*, O, I] to y [*, B, O], with the same leading axes * (none for a linear layer).

    Args:
        batch: Sizes of the leading axes.
        rows: B.
        columns: O.
        inner: I.
    """

    batch: tuple[int, ...] = ()
    rows: int
    columns: int
    inner: int

    #: No convolution is behind these GEMMs.
    conv = None

    @property
    def count(self) -> int:
        """Matrices in the batch."""
        return math.prod(self.batch)

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(M, N, K)."""
        match role:
            case "output":
                return self.rows, self.columns, self.inner
            case "grad_input":
                return self.rows, self.inner, self.columns
            case _:
                return self.columns, self.inner, self.rows

    def matrices(self, role: Role, side: Side, tensor: Tensor) -> list[Tensor]:
        """The matrices of the batch, transposed where the role calls for it."""
        laid = tensor.mT if _transposed(role, side) else tensor
        return [laid] if not self.batch else list(laid.flatten(0, len(self.batch) - 1).unbind())

    def assemble(self, role: Role, parts: Sequence[Tensor]) -> Tensor:
        """[*, M, N]."""
        if not self.batch:
            return parts[0]
        rows, columns, _ = self.sizes(role)
        return torch.stack(list(parts)).reshape(*self.batch, rows, columns) if parts else self._empty(role)

    def _empty(self, role: Role) -> Tensor:
        rows, columns, _ = self.sizes(role)
        return torch.zeros(*self.batch, rows, columns, dtype=torch.float32)

    def together(self, role: Role, side: Side) -> int:
        """The whole reduction: every element occurs once."""
        return self.sizes(role)[2]

    def reduced(self, role: Role, side: Side) -> Sequence[int]:
        """The last axis of x w^T; the first of the matrix where it is transposed."""
        depth = len(self.batch)
        inside = depth + 1 if side == "lhs" else depth
        outside = depth if side == "lhs" else depth + 1
        return [outside if _transposed(role, side) else inside]

    def scale(self, role: Role, side: Side, scale: Tensor) -> Tensor:
        """The scale, transposed with its tensor."""
        return scale.mT if _transposed(role, side) else scale

    def scaled_sums(self, role: Role, lhs: BoundedCodes, rhs: BoundedCodes, scale: Tensor) -> Tensor | None:
        """One library product, converted and scaled in one pass; None for a batch of matrices."""
        if self.batch or not (lhs.codes.numel() and rhs.codes.numel()):
            return None
        [a], [b] = self.matrices(role, "lhs", lhs.codes), self.matrices(role, "rhs", rhs.codes)
        return exact_product(a, b).to(torch.int32) * scale

    def native(self, role: Role, lhs: Tensor, rhs: Tensor) -> Tensor:
        """torch's matmul."""
        if role == "output" and not self.batch:
            return torch.nn.functional.linear(lhs, rhs)
        return (lhs.mT if _transposed(role, "lhs") else lhs) @ (rhs.mT if _transposed(role, "rhs") else rhs)


def _transposed(role: Role, side: Side) -> bool:
    """Which operands are transposed: x w^T, g w, g^T x."""
    return (role, side) in (("output", "rhs"), ("grad_weight", "lhs"))


@bills_itself
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
    rows = x.reshape(x.shape[:-1].numel(), x.shape[-1])  # [B, I]
    layout = MatrixContraction(rows=rows.shape[0], columns=weight.shape[0], inner=weight.shape[1])
    y = emulated(rows, weight, layout, spec, at)  # [B, O]
    y = add_bias(y, bias, 0, at.layer)
    return y.reshape(*x.shape[:-1], weight.shape[0]).to(x.dtype)


@bills_itself
def matmul(a: Tensor, b: Tensor, spec: OpSpec, at: CallSite = CallSite()) -> Tensor:
    """The emulated `torch.matmul`; `torch.bmm` is its case of three axes.

    a takes the input's place in `spec` and b the weight's: the GEMM of b's gradient is `grad_weight`. Quantisers
    see a as it is and b transposed, [..., N, K]: in both the last axis is the one that `output` sums over.

    Args:
        a: Floating point [..., M, K] or [K].
        b: Floating point [..., K, N] or [K].
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Returns:
        [..., M, N] with the leading axes broadcast; a vector's axis is left out, as torch does. It has the dtype
        that torch promotes a's and b's to.

    Raises:
        TypeError, ValueError, NotANumberError: As `linear`.
    """
    check_floating(a, at.layer)
    check_floating(b, at.layer)
    left = a[None] if a.ndim == 1 else a
    right = (b[None] if b.ndim == 1 else b.mT) if b.ndim else b  # [..., N, K]
    if not (left.ndim and right.ndim) or left.shape[-1] != right.shape[-1]:
        raise ValueError(f"layer {at.layer!r}: matmul can't multiply {list(a.shape)} and {list(b.shape)}")
    try:
        batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except RuntimeError as error:
        raise ValueError(
            f"layer {at.layer!r}: matmul can't broadcast {list(a.shape)} and {list(b.shape)}"
        ) from error
    layout = MatrixContraction(
        batch=tuple(batch), rows=left.shape[-2], columns=right.shape[-2], inner=left.shape[-1]
    )
    x, w = left.expand(*batch, *left.shape[-2:]), right.expand(*batch, *right.shape[-2:])
    y = emulated(
        x, w, layout, spec, replace(at, batched_weight=bool(batch), activations=True)
    )  # [*batch, M, N]
    y = y.squeeze(-1) if b.ndim == 1 else y
    y = y.squeeze(-1 if b.ndim == 1 else -2) if a.ndim == 1 else y
    return y.to(torch.promote_types(a.dtype, b.dtype))


def check_floating(x: Tensor, layer: str) -> None:
    """Refuse integer and complex inputs.

    Raises:
        TypeError: Naming the layer and the dtype.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"layer {layer!r} takes a floating-point tensor, got {got}")
