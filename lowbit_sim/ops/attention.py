"""Scaled dot-product attention with both of its matrix products emulated.

    y = dropout(softmax(q k^T s + mask)) v

(Vaswani et al., "Attention is all you need", 2017, section 3.2.1), with s = 1 / sqrt(E) unless another scale is
given. q k^T and the product with v are `ops.linear.matmul`, each with a spec of its own; scaling, mask, softmax and
dropout are torch's float32, but for the probabilities, which may be rounded to a format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.dropout import dropout
from lowbit_sim.ops.linear import check_floating, matmul
from lowbit_sim.ops.operand import FLOAT_BYTES, CallSite, quantize_operand
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import VectorEvent, emit, recording

#: Numbers of an attention's operators, which tell their random bits apart.
_SCORES, _PROBABILITIES, _VALUES = range(3)
PARTS = 3


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """The numerics of an attention.

    Args:
        scores: The product q k^T and its two gradient GEMMs; q is the input, k the weight.
        values: The product of the probabilities, the input, and v, the weight.
        probabilities: Rounds the softmax to a format, with a straight-through gradient; None leaves it in float32.

    Raises:
        TypeError: Something else than an `OpSpec` or a `Quantizer`.
    """

    scores: OpSpec
    values: OpSpec
    probabilities: Quantizer | None = None

    def __post_init__(self) -> None:
        for name in ("scores", "values"):
            if not isinstance(getattr(self, name), OpSpec):
                raise TypeError(f"{name} takes an OpSpec, got {getattr(self, name)!r}")
        if self.probabilities is not None and not isinstance(self.probabilities, Quantizer):
            raise TypeError(f"probabilities takes a Quantizer or None, got {self.probabilities!r}")

    def __str__(self) -> str:
        return f"scores ({self.scores}), probabilities {self.probabilities or 'fp32'}, values ({self.values})"

    @staticmethod
    def uniform(spec: OpSpec) -> AttentionSpec:
        """Both products alike."""
        return AttentionSpec(scores=spec, values=spec)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    spec: AttentionSpec,
    at: CallSite = CallSite(),
) -> Tensor:
    """The emulated `torch.nn.functional.scaled_dot_product_attention`, with its arguments.

    Args:
        query: Floating point [..., H, L, E].
        key: [..., H, S, E].
        value: [..., H, S, V].
        attn_mask: Broadcasts to [..., L, S]: boolean, True where a key takes part, or floating point, added to the
            scores. A query without any key has the output 0.
        dropout_p: Share of the probabilities that is dropped, from torch's random numbers.
        is_causal: Query i sees the keys up to i; excludes attn_mask.
        scale: Of the scores; by default 1 / sqrt(E).
        enable_gqa: Key and value may have fewer heads H than the query, each for a run of query heads.
        spec: The numerics.
        at: Where it runs.

    Returns:
        [..., H, L, V] in the query's dtype.

    Raises:
        TypeError: Not floating-point tensors, or a mask of integers.
        ValueError: Shapes that don't fit, both a mask and is_causal, a dropout_p outside [0, 1].
        NotANumberError: NaN in an operand.
    """
    _check(query, key, value, attn_mask, dropout_p, is_causal, at)
    if enable_gqa:
        key, value = _repeat_heads(query, key, at), _repeat_heads(query, value, at)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    y, _ = attention(query, key, value, attn_mask, dropout_p, scale, spec, at)
    return y


@bills_itself
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    scale: float | None,
    spec: AttentionSpec,
    at: CallSite,
) -> tuple[Tensor, Tensor]:
    """The output of an attention, and the probabilities [..., L, S] after rounding and dropout.

    The arguments are those of `scaled_dot_product_attention`, checked.
    """
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    products = matmul(query.float(), key.float().mT, spec.scores, at.operator(_SCORES, "scores"))
    p = _softmax(products * factor, mask)  # [..., L, S]
    if recording():
        _emit_softmax(p, at)
    if spec.probabilities is not None:
        p = _Rounded.apply(p, spec.probabilities, at.operator(_PROBABILITIES, "probabilities"))
    p = dropout(p, dropout_p, at.layer)
    y = matmul(p, value.float(), spec.values, at.operator(_VALUES, "values"))
    return y.to(query.dtype), p


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the keys that the mask leaves; 0 where it leaves none."""
    if mask is None:
        return torch.softmax(scores, -1)
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    else:
        scores = scores + mask.float()
    nothing = (scores == -math.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)


class _Rounded(torch.autograd.Function):
    """Quantised and dequantised; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, quantizer: Quantizer, at: CallSite) -> Tensor:
        return quantize_operand(p, quantizer, "output", "lhs", at).dequantize()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return g, None, None


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    at: CallSite,
) -> None:
    for x in (query, key, value):
        check_floating(x, at.layer)
        if x.ndim < 2:
            raise ValueError(
                f"layer {at.layer!r}: attention takes [..., length, features], got {list(x.shape)}"
            )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"layer {at.layer!r}: {key.shape[-2]} keys {list(key.shape)} and {value.shape[-2]} values "
            f"{list(value.shape)}: attention takes one value for each key"
        )
    if mask is not None and is_causal:
        raise ValueError(f"layer {at.layer!r}: attention takes attn_mask or is_causal=True, not both")
    if mask is not None and mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"layer {at.layer!r}: attn_mask is boolean or floating point, got {mask.dtype}")
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"layer {at.layer!r}: dropout_p must be from 0 to 1, got {dropout_p}")


def _repeat_heads(query: Tensor, x: Tensor, at: CallSite) -> Tensor:
    """Each head of x [..., H', S, E] for a run of H / H' heads of the query [..., H, L, E]."""
    heads = (query.shape[-3], x.shape[-3]) if query.ndim > 2 and x.ndim > 2 else (1, 1)
    if not heads[1] or heads[0] % heads[1]:
        raise ValueError(
            f"layer {at.layer!r}: {heads[0]} query heads are no multiple of {heads[1]} key heads"
        )
    return x if heads[0] == heads[1] else x.repeat_interleave(heads[0] // heads[1], -3)


def _emit_softmax(p: Tensor, at: CallSite) -> None:
    size = p.numel() * FLOAT_BYTES
    forward, backward = (
        VectorEvent(
            kind="activation", elements=p.numel(), read_bytes=reads * size, write_bytes=size, layer=at.layer
        )
        for reads in (1, 2)
    )
    emit(forward)
    if p.requires_grad:
        p.register_hook(lambda _: emit(backward))
