"""DoReFa's grids of k bits for weights and inputs: their values, and the quantisers that find them again as codes.

    q_k(v) = round((2^k - 1) v) / (2^k - 1), v in [0, 1]
    W^     = 2 q_k(tanh W / (2 max|tanh W|) + 1/2) - 1    codes: the 2^k odd numbers from -(2^k - 1) to 2^k - 1
    x^     = c q_k(min(max(x, 0), c) / c)                 codes: 0 to 2^k - 1

A value is its code times a scale that is known beforehand, 1 / (2^k - 1) of weights and c / (2^k - 1) of inputs, so
that an integer GEMM over the codes is exact. The gradient passes the rounding straight through, and for inputs stops
outside [0, c]. Above 8 bits a product of two codes and its sums outgrow the accumulators of 32 bits that machines
have: such values enter GEMMs in float32. 32 bits stand for full precision, in which a tensor stays as it is: neither
scaled by its tanh nor clipped.

Sources: Zhou et al., "DoReFa-Net", arXiv 1606.06160; Zhuang et al., "Towards Effective Low-bitwidth Convolutional
Neural Networks", arXiv 1711.00205, whose code quantises like that, with c = 1 (and in one file 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import CodebookFormat, IntFormat
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.quant.dorefa_weights import DoReFaLevels
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scale_rules import FixedScale
from lowbit_sim.trace import VectorEvent, emit, recording

#: The bits that stand for full precision.
FULL = 32

#: The most bits of a grid, and the most with which GEMMs run on codes.
MOST_BITS, MOST_CODE_BITS = 16, 8


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bits of a layer's weights and of its inputs.

    Args:
        weight_bits: 1 to 16, or 32 for full precision.
        activation_bits: The same for the layer's inputs.

    Raises:
        ValueError: Other bits.
    """

    weight_bits: int = FULL
    activation_bits: int = FULL

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits"):
            bits = getattr(self, name)
            if bits != FULL and not is_whole(bits, 1, MOST_BITS):
                raise ValueError(
                    f"{name} must be from 1 to {MOST_BITS}, or {FULL} for full precision, got {bits!r}"
                )

    @property
    def is_full(self) -> bool:
        """Whether nothing is on a grid."""
        return self == Precision()

    def __str__(self) -> str:
        return f"W{self.weight_bits}A{self.activation_bits}"


def check_clip(clip: float) -> None:
    """Refuse an upper end of the inputs' range that is none.

    Raises:
        ValueError: It is not positive and finite.
    """
    if not 0 < clip < float("inf"):
        raise ValueError(
            f"clip, the upper end of the inputs' range, must be positive and finite, got {clip!r}"
        )


@cache
def weight_quantizer(bits: int) -> Quantizer | None:
    """What finds the codes of W^; None where the GEMM runs on values."""
    if bits > MOST_CODE_BITS:
        return None
    levels = DoReFaLevels(bits=bits)
    return Quantizer(levels.format, scale=FixedScale(_float32(levels.step)))


@cache
def input_quantizer(bits: int, clip: float = 1.0) -> Quantizer | None:
    """What finds the codes of x^; None where the GEMM runs on values."""
    if bits > MOST_CODE_BITS:
        return None
    top = (1 << bits) - 1
    format = CodebookFormat(values=(0.0, 1.0), name="uint1") if bits == 1 else _unsigned(bits)
    return Quantizer(format, scale=FixedScale(_float32(clip / top)))


def _unsigned(bits: int) -> IntFormat:
    return IntFormat(bits=bits, signed=False, symmetric=False)


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))


def on_grid(x: Tensor, bits: int, clip: float = 1.0, layer: str = "", *, as_codes: bool = True) -> Tensor:
    """x^ of an input, differentiable in x.

    Args:
        x: Floating point, any shape.
        bits: k.
        clip: c.
        layer: Module path, for the events.
        as_codes: Whether a GEMM turns the values into codes, which a machine does in the same pass; else the rounding
            is a pass of its own.
    """
    if bits == FULL:
        return x
    y = _OnGrid.apply(x, bits, clip, layer, as_codes)
    assert isinstance(y, Tensor)
    return y


class _OnGrid(torch.autograd.Function):
    @staticmethod
    @bills_itself
    def forward(ctx: Any, x: Tensor, bits: int, clip: float, layer: str, as_codes: bool) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward((x >= 0) & (x <= clip))
        if recording():
            size = x.numel() * FLOAT_BYTES
            mask = -(-x.numel() // 8) if ctx.needs_input_grad[0] else 0
            passed = 0 if as_codes else size
            kind = "activation" if as_codes else "transform"
            emit(_event(kind, x, layer, read=passed, write=passed + mask, kept=mask))
        steps = (1 << bits) - 1
        return (x.clamp(0, clip) / clip * steps).round() / steps * clip

    @staticmethod
    @bills_itself
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (inside,) = ctx.saved_tensors
        if recording():
            size, mask = grad.numel() * FLOAT_BYTES, -(-grad.numel() // 8)
            emit(_event("activation", grad, ctx.layer, read=size + mask, write=size))
        return torch.where(inside, grad, 0.0), None, None, None, None


def _event(kind: str, x: Tensor, layer: str, *, read: int, write: int, kept: int = 0) -> VectorEvent:
    return VectorEvent(
        kind=kind,
        elements=x.numel(),
        read_bytes=read,
        write_bytes=write,
        layer=layer,
        kept_bytes=kept,
        keeps="marks" if kept else "",
    )
