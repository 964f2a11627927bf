"""Emulated multi-head attention, and transformer encoders that call their layers instead of a fused kernel."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lowbit_sim.nn.emulation import EmulatedLayer, eager, next_call
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.ops.attention import attention
from lowbit_sim.ops.linear import check_floating, linear
from lowbit_sim.ops.operand import CallSite

#: Numbers of the layer's operators, which tell their random bits apart; attention takes those up to the next.
_QUERY, _KEY, _VALUE, _ATTENTION, _OUT = 0, 1, 2, 3, 6


class MultiheadAttention(EmulatedLayer, nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` with emulated projections and products.

    The projections of query, key and value are three GEMMs, each with a scale of its own, whether or not the three
    are one tensor. A query whose keys are all masked has the output of the projection of 0 (torch's is NaN).
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention`; see `ops.attention`. `attn_mask` decides, is_causal is a hint only."""
        if is_causal and attn_mask is None:
            raise ValueError(
                f"layer {self.emulation.layer!r}: is_causal=True is a hint about attn_mask: give both"
            )
        y, weights = eager(_attend, self, query, key, value, key_padding_mask, attn_mask)
        if not need_weights:
            return y, None
        weights = weights.mean(1) if average_attn_weights else weights  # [N, L, S]
        return y, weights if query.ndim == 3 else weights.squeeze(0)


def _attend(
    layer: MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The output in the query's layout, and the probabilities [N, H, L, S]."""
    at, spec = next_call(layer), layer.emulation.spec
    functional = spec if isinstance(spec, FunctionalSpec) else FunctionalSpec(spec)
    products = functional.products
    q, k, v = _batch_first(layer, query, key, value, at)
    weights, biases = _projections(layer)
    q, k, v = (
        linear(x.float(), w, b, products, at.operator(part, name))  # [N, L, E]
        for x, w, b, part, name in zip(
            (q, k, v), weights, biases, (_QUERY, _KEY, _VALUE), ("query", "key", "value"), strict=True
        )
    )
    k, v, added = _added_keys(layer, k, v)
    bias = _mask(layer, mask, padding, q, k.shape[1] - added, added, at)
    heads = [x.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for x in (q, k, v)]  # [N, H, L, E / H]
    dropout = layer.dropout if layer.training else 0.0
    y, p = attention(
        heads[0],
        heads[1],
        heads[2],
        bias,
        dropout,
        None,
        functional.attention_spec,
        at.operator(_ATTENTION, "attention"),
    )
    joined = y.transpose(1, 2).flatten(2)  # [N, L, E]
    out = layer.out_proj
    y = linear(joined, out.weight, out.bias, products, at.operator(_OUT, "out_proj")).to(query.dtype)
    if query.ndim == 2:
        return y.squeeze(0), p
    return y if layer.batch_first else y.transpose(0, 1), p


def _batch_first(
    layer: MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, at: CallSite
) -> list[Tensor]:
    """Each as [N, length, features]."""
    for x in (query, key, value):
        check_floating(x, at.layer)
        if x.is_nested or x.ndim != query.ndim or x.ndim not in (2, 3):
            raise ValueError(
                f"layer {at.layer!r} takes query, key and value as [length, features] or with a batch, and no "
                f"nested tensors, got axes {query.ndim}, {key.ndim} and {value.ndim}"
            )
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(
            f"layer {at.layer!r} takes one value for each key, got {list(key.shape)} and {list(value.shape)}"
        )
    if query.ndim == 2:
        return [x[None] for x in (query, key, value)]
    return [x if layer.batch_first else x.transpose(0, 1) for x in (query, key, value)]


def _projections(layer: MultiheadAttention) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Weights and biases of query, key and value."""
    if layer._qkv_same_embed_dim:
        weights = layer.in_proj_weight.chunk(3)
    else:
        weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    return tuple(weights), tuple(biases)


def _added_keys(layer: MultiheadAttention, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
    """Keys and values with `bias_k` and `bias_v`, and a zero (`add_zero_attn`), after them; how many are added."""
    added = 0
    if layer.bias_k is not None and layer.bias_v is not None:
        k, v = (
            torch.cat([x, b.float().expand(len(x), 1, -1)], 1)
            for x, b in ((k, layer.bias_k), (v, layer.bias_v))
        )
        added += 1
    if layer.add_zero_attn:
        k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        added += 1
    return k, v, added


def _mask(
    layer: MultiheadAttention,
    mask: Tensor | None,
    padding: Tensor | None,
    q: Tensor,
    keys: int,
    added: int,
    at: CallSite,
) -> Tensor | None:
    """What is added to the scores, broadcasting to [N, H, L, S]: torch's masks are True where a key is left out."""
    batch, length = q.shape[:2]
    total: Tensor | None = None
    if mask is not None:
        heads = layer.num_heads
        if mask.shape not in ((length, keys), (batch * heads, length, keys)):
            raise ValueError(
                f"layer {at.layer!r}: attn_mask {list(mask.shape)} must be {[length, keys]} or "
                f"{[batch * heads, length, keys]}"
            )
        total = _additive(mask, at).reshape(-1, heads if mask.ndim == 3 else 1, length, keys)
    if padding is not None:
        if padding.shape not in ((batch, keys), (keys,)):
            raise ValueError(
                f"layer {at.layer!r}: key_padding_mask {list(padding.shape)} must be {[batch, keys]}"
            )
        hidden = _additive(padding, at).reshape(-1, 1, 1, keys)
        total = hidden if total is None else total + hidden
    return F.pad(total, (0, added)) if total is not None and added else total


def _additive(mask: Tensor, at: CallSite) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_fill(mask, -math.inf)
    if not mask.is_floating_point():
        raise TypeError(f"layer {at.layer!r}: masks are boolean or floating point, got {mask.dtype}")
    return mask.float()


class _Watched(TorchFunctionMode):
    """Changes nothing; torch takes no fused path while any mode could see the functions it leaves out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class TransformerEncoderLayer(nn.TransformerEncoderLayer):
    """`torch.nn.TransformerEncoderLayer` that calls its layers in evaluation mode as well."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """As torch's, without the fused kernel."""
        with _Watched():
            return super().forward(src, src_mask, src_key_padding_mask, is_causal)


class TransformerEncoder(nn.TransformerEncoder):
    """`torch.nn.TransformerEncoder` that hands its layers plain tensors in evaluation mode as well."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """As torch's, without nested tensors."""
        with _Watched():
            return super().forward(src, mask, src_key_padding_mask, is_causal)


#: What stands in for torch's encoders where layers in them are emulated.
UNFUSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.TransformerEncoderLayer: TransformerEncoderLayer,
    nn.TransformerEncoder: TransformerEncoder,
}
