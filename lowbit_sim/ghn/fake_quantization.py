"""Quantisation inside a float graph: values of codes with a straight-through gradient, or noise of a step's width.

    fake_quantize(x)  = s (q(x) - z)                 gradient 1
    with_noise(x)     = x + s U(-1/2, 1/2)           gradient 1, with s and the noise as constants

q, s and z are the quantiser's own, so the values are those of the codes that an emulated GEMM with the same quantiser
multiplies. Min-max and absmax scales clip nothing; where another one clips, the gradient is 1 there too.

Without a quantiser both give x itself: the same tensor, and so the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.quantize_events import FLOAT_BYTES, Passed, emit_quantize
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import scale_and_zero_point
from lowbit_sim.trace import VectorEvent, emit, recording


def fake_quantize(x: Tensor, quantizer: Quantizer | None, *, layer: str = "") -> Tensor:
    """The values of a tensor's codes, float32.

    Args:
        x: float32, any shape.
        quantizer: With an absmax or min-max scale; None for x itself.
        layer: Module path that the conversion is billed to.

    Raises:
        NotANumberError: x holds NaN.
    """
    if quantizer is None:
        return x
    y = _FakeQuantize.apply(x, quantizer, layer)
    assert isinstance(y, Tensor)
    return y


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    @bills_itself
    def forward(ctx: Any, x: Tensor, quantizer: Quantizer, layer: str) -> Tensor:
        quantized = quantizer(x)
        if recording():
            emit_quantize(Passed(elements=x.numel()), quantized, quantizer, layer)
        return quantized.dequantize()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return g, None, None


def with_noise(x: Tensor, quantizer: Quantizer | None, *, layer: str = "") -> Tensor:
    """A tensor with uniform noise as wide as the step to which it would be rounded.

    The noise comes from torch's global generator of the tensor's device.

    Args:
        x: float32, any shape.
        quantizer: Whose scale is the step's width; None for x itself.
        layer: Module path that the noise is billed to.
    """
    return x if quantizer is None else _noisy(x, quantizer, layer)


@bills_itself
def _noisy(x: Tensor, quantizer: Quantizer, layer: str) -> Tensor:
    if recording():
        _bill_noise(x, layer)
    given = x.detach().contiguous()
    scale, _ = scale_and_zero_point(given, quantizer.format, quantizer.granularity, quantizer.scale)
    return x + (torch.rand_like(given) - 0.5) * scale


def _bill_noise(x: Tensor, layer: str) -> None:
    """A pass for the step's width, and one that draws 32 bits for each element and adds."""
    size = x.numel() * FLOAT_BYTES
    emit(VectorEvent(kind="scale_reduction", elements=x.numel(), read_bytes=size, write_bytes=0, layer=layer))
    emit(
        VectorEvent(
            kind="random_bits",
            elements=x.numel(),
            read_bytes=size,
            write_bytes=size,
            random_bits=32 * x.numel(),
            layer=layer,
        )
    )
