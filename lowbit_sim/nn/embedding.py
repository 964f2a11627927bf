"""The emulated embedding: a drop-in subclass of torch's own, with the same parameters and state_dict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowbit_sim.nn.emulation import EmulatedLayer, eager, next_call
from lowbit_sim.ops.embedding import embedding


class Embedding(EmulatedLayer, nn.Embedding):
    """`torch.nn.Embedding` with a quantised table and an emulated gradient."""

    def forward(self, input: Tensor) -> Tensor:
        """[*] to [*, embedding_dim]; see `ops.embedding`."""
        return eager(_embedding, self, input)


def why_not(layer: nn.Module) -> str | None:
    """Why an embedding can't be emulated, or None."""
    if isinstance(layer, nn.Embedding) and layer.sparse:
        return "its gradient is sparse (sparse=True), while an emulated GEMM's is dense: use sparse=False"
    return None


def _embedding(layer: Embedding, tokens: Tensor) -> Tensor:
    at = next_call(layer)
    if layer.max_norm is not None:
        with torch.no_grad():  # as torch: the rows that are looked up are renormalised in place, in float32
            torch.embedding_renorm_(
                layer.weight, tokens.reshape(-1).contiguous(), layer.max_norm, layer.norm_type
            )
    return embedding(
        tokens,
        layer.weight,
        layer.emulation.op_spec,
        at,
        padding_idx=layer.padding_idx,
        scale_grad_by_freq=layer.scale_grad_by_freq,
    )
