"""Clipping at a learned level alpha, then rounding: PACT, and CG-PACT, whose gradient of alpha sees the rounding.

    y = clip(x, 0, alpha);   y_q = alpha q_k(y / alpha) = step * code;   step = alpha / n, code of 0 .. n, n = 2^k - 1

                                   0 < x < alpha              x >= alpha    x <= 0
    dy_q/dx                        1                          0             0
    dy_q/dalpha, PACT              0                          1             0
    dy_q/dalpha, CG-PACT           q_k(y / alpha) - y / alpha 1             0

PACT takes q_k(v) for v; what it leaves out is 1 / (2n) at most, of every element within the range. CG-PACT's
derivative is LSQ's of the step, divided by n (`learned_step`). The sign of alpha does not count: |alpha| clips.

For signed inputs the clip is two-sided, within [-alpha, alpha], and codes are those of a symmetric k-bit integer,
n = 2^(k-1) - 1, so that zero stays zero; at x <= -alpha dy_q/dalpha is -1. That grid is ours.

The code is what a quantiser with this step finds: round(fp32(x fp32(1 / step))), saturated, step = fp32(|alpha| / n).

Sources: Choi et al., "PACT", arXiv 1805.06085 (the clip and its gradient); Jin, Yang and Liao, "Towards Efficient
Training for Neural Network Quantization", arXiv 1912.10207 (the calibrated gradient).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lowbit_sim.numerics.formats import CodebookFormat, IntFormat
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.quant.not_a_number import NotANumberError
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scale_rules import MIN_SCALE, LearnedScale
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.quant.sums import row_sums

ClipGradient = Literal["pact", "cg_pact"]

CLIP_GRADIENTS = get_args(ClipGradient)


@dataclass(frozen=True, kw_only=True)
class ClipGrid:
    """The levels between the ends of a clip.

    Args:
        bits: Width of a code: 1 to 16, from 2 on if two-sided.
        two_sided: Whether the clip is within [-alpha, alpha], else [0, alpha].

    Raises:
        ValueError: Bits outside their range.
    """

    bits: int
    two_sided: bool = False

    def __post_init__(self) -> None:
        least = 2 if self.two_sided else 1
        if not is_whole(self.bits, least, 16):
            kind = "two-sided" if self.two_sided else "one-sided"
            raise ValueError(f"a {kind} clip has {least} to 16 bits, got bits={self.bits!r}")

    @property
    def format(self) -> IntFormat | CodebookFormat:
        """The format of the codes."""
        if self.bits == 1:  # integer formats begin at two bits
            return CodebookFormat(values=(0.0, 1.0), name="uint1")
        return IntFormat(bits=self.bits, signed=self.two_sided, symmetric=self.two_sided)

    @property
    def steps(self) -> int:
        """n: the code of alpha."""
        return (1 << (self.bits - 1)) - 1 if self.two_sided else (1 << self.bits) - 1

    @property
    def quantizer(self) -> Quantizer:
        """What finds the codes of a tensor whose `ScaleState` holds the step."""
        return Quantizer(self.format, scale=LearnedScale())


def clip_step(alpha: Tensor, grid: ClipGrid) -> Tensor:
    """fp32(|alpha| / n), at least 2^-126: float32 in the shape of alpha."""
    magnitude = alpha.detach().abs().to(torch.float32)
    # By a tensor: a GPU multiplies by the reciprocal of a number.
    return (magnitude / torch.full_like(magnitude, grid.steps)).clamp(min=MIN_SCALE)


def pact(x: Tensor, alpha: Tensor, grid: ClipGrid, gradient: ClipGradient = "cg_pact") -> Tensor:
    """alpha q_k(clip(x) / alpha), float32 in the shape of x.

    Args:
        x: Floating point, any shape.
        alpha: One element.
        grid: The levels.
        gradient: Of alpha: "pact" or "cg_pact".

    Raises:
        ValueError: An alpha of more than one element, or an unknown gradient.
        NotANumberError: x holds NaN, or alpha is not finite.
    """
    if alpha.numel() != 1:
        raise ValueError(f"alpha is one number for a tensor, got a tensor of shape {list(alpha.shape)}")
    if gradient not in CLIP_GRADIENTS:
        raise ValueError(unknown("gradient of alpha", gradient, CLIP_GRADIENTS))
    if not alpha.is_meta and not bool(torch.isfinite(alpha.detach()).all()):
        raise NotANumberError(f"the level of a clip is a finite number, got alpha={float(alpha.detach())}")
    y = _Clip.apply(x, alpha, grid, gradient)
    assert isinstance(y, Tensor)
    return y


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, grid: ClipGrid, gradient: ClipGradient) -> Tensor:
        step = clip_step(alpha, grid).reshape((1,) * x.ndim)
        q = grid.quantizer(x, state=ScaleState(value=step, frozen=True))
        codes = q.values()
        inside, slope = slopes(x.detach().to(torch.float32), codes, alpha.detach(), step, grid, gradient)
        ctx.save_for_backward(inside, slope, alpha)
        ctx.dtype = x.dtype
        return codes * step

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inside, slope, alpha = ctx.saved_tensors
        grad_x = torch.where(inside, g, 0.0).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        grad_alpha = None
        if ctx.needs_input_grad[1]:
            total = row_sums((g.to(torch.float32) * slope).reshape(1, -1)).to(alpha.dtype)
            grad_alpha = (total * torch.where(alpha < 0, -1.0, 1.0).reshape(1)).reshape(alpha.shape)
        return grad_x, grad_alpha, None, None


def slopes(
    x: Tensor, codes: Tensor, alpha: Tensor, step: Tensor, grid: ClipGrid, gradient: ClipGradient
) -> tuple[Tensor, Tensor]:
    """Where dy_q/dx is 1, bool, and dy_q/d|alpha|, float32: both in the shape of x.

    Args:
        x: float32.
        codes: Its codes as numbers, float32.
        alpha: The clip.
        step: Its step.
        grid: The levels.
        gradient: "pact" or "cg_pact".
    """
    level = alpha.abs().to(torch.float32).reshape(step.shape)
    inside = (x > (-level if grid.two_sided else 0.0)) & (x < level)
    # x times the reciprocal, as it is rounded from: the difference is the rounding's own.
    error = (codes - x * step.reciprocal()) / grid.steps if gradient == "cg_pact" else torch.zeros_like(x)
    return inside, torch.where(inside, error, codes / grid.steps)
