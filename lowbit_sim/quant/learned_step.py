"""Fake quantisation with a learned step (LSQ): the values of quantised x, differentiable in x and in the step.

With v = x / step and the format's range Qlow .. Qhigh, y = step q(v), where q rounds to nearest even and saturates,
and (Esser et al. 2020, "Learned Step Size Quantization", ICLR; Qlow = -Q_N, Qhigh = Q_P)

    dy/dx    = 1 where Qlow < v < Qhigh, else 0
    dy/dstep = q(v) - v where Qlow < v < Qhigh, Qlow where v <= Qlow, Qhigh where v >= Qhigh

The gradient of the step is the sum over the elements that share it, times `grad_scale`, by default
1 / sqrt(N Q_P) for N elements. The layer owns the step; a quantiser reads it with `LearnedScale` out of a
`ScaleState` that holds the same tensor, and finds the same codes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lowbit_sim.numerics.encode import code_range, decode
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FixedFormat,
    Format,
    IntFormat,
)
from lowbit_sim.quant.granularity import Granularity, PerTensor, scale_shape, written
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.regions import rows, spread
from lowbit_sim.quant.scale_rules import LearnedScale
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.quant.sums import row_sums


def learned_step(
    x: Tensor,
    step: Tensor,
    fmt: Format,
    grad_scale: float | None = None,
    *,
    granularity: Granularity = PerTensor(),
) -> Tensor:
    """step * q(x / step), float32 in the shape of x, with LSQ's gradients.

    Args:
        x: Floating point, any shape.
        step: float32; of shape `scale_shape(granularity, x.shape)`, or any of one element for PerTensor. Values below
            2^-126 count as that.
        fmt: The format; not a `BlockFormat`.
        grad_scale: Factor of the step's gradient; None for LSQ's 1 / sqrt(N max_value), N = elements per step.
        granularity: Which elements share a step.

    Raises:
        ValueError: A step of another shape, not finite, or of a block format.
        NotANumberError: x holds NaN.
    """
    if isinstance(fmt, BlockFormat):
        raise ValueError(f"{fmt} computes its own scales: a learned step needs an element format")
    shape = scale_shape(granularity, tuple(x.shape))
    if tuple(step.shape) != shape and not (step.numel() == 1 == math.prod(shape)):
        raise ValueError(
            f"a step for a tensor of shape {list(x.shape)} with {written(granularity)} has shape {list(shape)}, "
            f"got {list(step.shape)}"
        )
    if grad_scale is None:
        elements = x.numel() / max(math.prod(shape), 1)
        grad_scale = 1.0 / math.sqrt(max(elements, 1.0) * fmt.max_value)
    y = _LearnedStep.apply(x, step, fmt, granularity, float(grad_scale))
    assert isinstance(y, Tensor)
    return y


def value_range(fmt: ElementFormat) -> tuple[float, float]:
    """The smallest and the largest finite value: -Q_N and Q_P."""
    if isinstance(fmt, CodebookFormat):
        return fmt.values[0], fmt.values[-1]
    if isinstance(fmt, IntFormat | FixedFormat):
        low, high = (decode(torch.tensor([code]), fmt).item() for code in code_range(fmt))
        return low, high
    return -fmt.max_value, fmt.max_value


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, fmt: ElementFormat, granularity: Granularity, grad_scale: float
    ) -> Tensor:
        state = ScaleState(value=step.reshape(scale_shape(granularity, tuple(x.shape))), frozen=True)
        q = Quantizer(fmt, granularity=granularity, scale=LearnedScale())(x, state=state)
        scale = q.expanded_scale()
        scaled = x.detach().to(torch.float32) * (1.0 / scale)
        low, high = value_range(fmt)
        inside = (low < scaled) & (scaled < high)
        values = q.values()
        ctx.save_for_backward(inside, torch.where(inside, values - scaled, values))
        ctx.granularity, ctx.grad_scale = granularity, grad_scale
        ctx.step_shape, ctx.dtype = step.shape, x.dtype
        return values * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inside, slope = ctx.saved_tensors
        grad_x = torch.where(inside, g, 0.0).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        grad_step = None
        if ctx.needs_input_grad[1]:
            products = g.to(torch.float32) * slope
            sums = [_sums(part, ctx.grad_scale) for part in rows(products, ctx.granularity)]
            grad_step = spread(sums, ctx.granularity, tuple(g.shape), empty=0.0, device=g.device)
            grad_step = grad_step.reshape(ctx.step_shape)
        return grad_x, grad_step, None, None, None


def _sums(part: Tensor, factor: float) -> Tensor:
    """factor * the sum of each row."""
    return (row_sums(part) * factor).to(torch.float32)
