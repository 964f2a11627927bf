"""y = w[tokens]: a look-up of quantised rows, and its gradient as the product with the tokens' one-hot matrix.

| role        | what runs                                                                               |
|-------------|-----------------------------------------------------------------------------------------|
| output      | w is quantised by `output.rhs` in its own layout; rows are gathered, no MAC unit is used |
| grad_input  | nothing: tokens have no gradient                                                        |
| grad_weight | (g^T E)^T, g [B, D] quantised by `grad_weight.lhs`, E [B, V] the tokens' one-hot matrix  |

so a row of the gradient is the sum of its tokens' rows of g, in the order of the tokens, in the MAC unit. Where no
accumulator can overflow the order is immaterial and rows are simply added; elsewhere the product runs, over the
columns of E that hold a token (the others are 0) or, where the result's place addresses random bits or 0 times x may
not be 0, over all. On record it is the GEMM of B D multiply-accumulates that a machine needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.arith.bounds import magnitude, range_proof
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.catalog import INT8
from lowbit_sim.ops.backend import forced_backend
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.capture import capturing
from lowbit_sim.ops.contraction import BoundedCodes, Side
from lowbit_sim.ops.emulated import no_autocast, refuse_second_derivative
from lowbit_sim.ops.events import emit_native, gemm_event
from lowbit_sim.ops.laid_out import check_reduction
from lowbit_sim.ops.operand import FLOAT_BYTES, CallSite, Operands, operands, quantize_operand
from lowbit_sim.ops.product import product
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.trace import Role, VectorEvent, emit, recording


@dataclass(frozen=True, kw_only=True)
class EmbeddingContraction:
    """The gradient of an embedding's weight: g [B, D] and one-hot tokens [B, V] to [V, D].

    Args:
        tokens: B.
        width: D.
    """

    tokens: int
    width: int

    #: One GEMM, behind which is no convolution.
    count = 1
    conv = None

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(D, 1, B): each token's gradient is added to one row only."""
        return self.width, 1, self.tokens

    def matrices(self, role: Role, side: Side, tensor: Tensor) -> list[Tensor]:
        """g transposed; the one-hot matrix as it is."""
        return [tensor.t() if side == "lhs" else tensor]

    def assemble(self, role: Role, parts: Sequence[Tensor]) -> Tensor:
        """[V, D]."""
        return parts[0].t().contiguous()

    def together(self, role: Role, side: Side) -> int:
        """All tokens: every element occurs once."""
        return self.tokens

    def reduced(self, role: Role, side: Side) -> Sequence[int]:
        """The tokens' axis."""
        return [0]

    def scale(self, role: Role, side: Side, scale: Tensor) -> Tensor:
        """g's scale, [1, 1] or [1, D]."""
        return scale

    def scaled_sums(self, role: Role, lhs: BoundedCodes, rhs: BoundedCodes, scale: Tensor) -> Tensor | None:
        """None: the matrix is a vector of ones."""
        return None

    def native(self, role: Role, lhs: Tensor, rhs: Tensor) -> Tensor:
        """torch's own."""
        return rhs.t() @ lhs


@bills_itself
def embedding(
    tokens: Tensor,
    weight: Tensor,
    spec: OpSpec,
    at: CallSite = CallSite(),
    *,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
) -> Tensor:
    """The emulated `torch.nn.functional.embedding`.

    Args:
        tokens: Row numbers, integers of any shape [*].
        weight: [V, D].
        spec: The numerics.
        at: Where it runs.
        padding_idx: A row without a gradient.
        scale_grad_by_freq: Divide each row's gradient by the number of its tokens (times fp32(1 / n)).

    Returns:
        [*, D], in the weight's dtype.

    Raises:
        TypeError: Tokens that are not int32 or int64.
        IndexError: A token outside the table.
        ValueError: A scale of g that varies along the tokens.
        NotANumberError: NaN in the weight or in the gradient.
    """
    if tokens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"layer {at.layer!r} takes int32 or int64 tokens, got {tokens.dtype}")
    rows = weight.shape[0]
    if tokens.numel() and not tokens.is_meta and not 0 <= int(tokens.min()) <= int(tokens.max()) < rows:
        raise IndexError(
            f"layer {at.layer!r}: tokens from {int(tokens.min())} to {int(tokens.max())}, the table has rows 0 to "
            f"{rows - 1}"
        )
    padding = None if padding_idx is None else padding_idx % rows
    flat = tokens.reshape(-1).to(torch.int64)
    y = _Embedding.apply(weight.to(torch.float32), flat, spec, at, padding, scale_grad_by_freq)  # [B, D]
    assert isinstance(y, Tensor)
    return y.reshape(*tokens.shape, weight.shape[1]).to(weight.dtype)


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        tokens: Tensor,
        spec: OpSpec,
        at: CallSite,
        padding: int | None,
        by_frequency: bool,
    ) -> Tensor:
        ctx.spec, ctx.at, ctx.padding, ctx.by_frequency = spec, at, padding, by_frequency
        ctx.rows = weight.shape[0]
        ctx.save_for_backward(tokens)
        bits = 8 * FLOAT_BYTES
        if spec.output is not None:
            weight = quantize_operand(weight, spec.output.rhs, "output", "rhs", at).dequantize()
            bits = spec.output.rhs.element_format.bits
        y = F.embedding(tokens, weight)
        if recording():
            read, write = -(-y.numel() * bits // 8), y.numel() * FLOAT_BYTES
            emit(
                VectorEvent(
                    kind="embedding",
                    elements=y.numel(),
                    read_bytes=read,
                    write_bytes=write,
                    layer=at.layer,
                )
            )
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:  # type: ignore[override]
        refuse_second_derivative(ctx.at)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, None
        (tokens,) = ctx.saved_tensors
        with no_autocast(g.device):
            grad = _grad_weight(g.contiguous(), tokens, ctx.rows, ctx.spec.grad_weight, ctx.padding, ctx.at)
        if ctx.by_frequency:
            grad = grad * (1.0 / torch.bincount(tokens, minlength=ctx.rows).clamp(min=1).float())[:, None]
        return grad, None, None, None, None, None


def _grad_weight(
    g: Tensor, tokens: Tensor, rows: int, spec: GemmSpec | None, padding: int | None, at: CallSite
) -> Tensor:
    """[V, D] of g [B, D]."""
    layout = EmbeddingContraction(tokens=len(tokens), width=g.shape[1])
    if spec is None:
        emit_native(layout, "grad_weight", at)
        grad = g.new_zeros(rows, g.shape[1], dtype=torch.float32).index_add_(0, tokens, g)
    else:
        grad = _emulated(layout, g, tokens, rows, spec, at)
    if padding is not None:
        grad[padding] = 0.0
    return grad


def _emulated(
    layout: EmbeddingContraction, g: Tensor, tokens: Tensor, rows: int, spec: GemmSpec, at: CallSite
) -> Tensor:
    if g.is_meta:
        raise ValueError(
            f"layer {at.layer!r}: which rows of an emulated embedding get a gradient depends on the tokens, which "
            "have no values on the meta device: trace it on the CPU, or keep the layer native"
        )
    lhs = operands(g, spec, "grad_weight", "lhs", at)
    used = torch.arange(rows, device=g.device) if _needs_all_columns(spec) else tokens.unique()
    grad = g.new_zeros(rows, g.shape[1], dtype=torch.float32)
    added = _added(layout, lhs, tokens, rows, spec, len(used), at)
    if added is not None:
        return added
    if len(used):
        one_hot = (tokens[:, None] == used).to(torch.int8)  # [B, U]
        grad[used] = product(layout, "grad_weight", spec, lhs, _exact(one_hot, spec), at)
    return grad


def _exact(one_hot: Tensor, spec: GemmSpec) -> Operands:
    """The one-hot matrix as an operand: its codes are itself, unless a transform makes real numbers of it."""
    if spec.transform is not None:
        return Operands((), one_hot.to(torch.float32))
    scale = torch.ones(1, 1, dtype=torch.float32, device=one_hot.device)
    return Operands((QTensor(codes=one_hot, scale=scale, format=INT8),))


def _needs_all_columns(spec: GemmSpec) -> bool:
    """Whether a result depends on its place among all, or on products with 0."""
    if spec.transform is not None or spec.across.rounding.is_stochastic:
        return True
    if isinstance(spec.mac, FloatMacUnit):
        return spec.mac.rounding.is_stochastic
    return not spec.mac.exact_products


def _added(
    layout: EmbeddingContraction,
    lhs: Operands,
    tokens: Tensor,
    rows: int,
    spec: GemmSpec,
    columns: int,
    at: CallSite,
) -> Tensor | None:
    """The gradient by plain sums of integers, where no accumulator can overflow; else None."""
    mac = spec.mac
    if not isinstance(mac, MacUnit) or not mac.exact_products or mac.truncated_bits or spec.samples > 1:
        return None
    # A forced backend is there to be run, and a capture wants the operands.
    if lhs.real is not None or forced_backend() or capturing() or not len(tokens):
        return None
    (q,) = lhs.quantized
    check_reduction(q, [0], "grad_weight", "lhs", at.layer)
    codes = q.integers()
    longest = int(torch.bincount(tokens).max())
    why = range_proof(mac, longest, magnitude(codes), 1)
    if why is None:
        return None
    sums = codes.new_zeros(rows, codes.shape[1], dtype=torch.int64).index_add_(
        0, tokens, codes.to(torch.int64)
    )
    additions = columns * codes.shape[1] * mac.additions(len(tokens))
    if at.tallies is not None:
        at.tally("grad_weight").add(additions, overflows=0)
    if recording():
        event = gemm_event(layout, "grad_weight", spec, at.layer)
        emit(replace(event, additions=additions, backend="torch_exact"))
    unit = q.element_format.unit or 1.0
    scale = q.expanded_scale()
    return sums.to(torch.float32) * (scale if unit == 1.0 else scale * unit)
