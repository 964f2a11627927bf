"""How a tensor's scale (and zero point) is chosen.

A rule is a frozen dataclass; `scale_and_zero_point` is the one place that evaluates them. All arithmetic is
float32, each operation rounded once, so that every backend finds the same scale:
scale = fp32(absmax / max_value), never below 2^-126 (so that no reciprocal overflows), 1 for an all-zero
tensor. Infinite elements are left out of the maximum; they saturate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.quant.granularity import Granularity, scale_shape

MIN_SCALE = 2.0**-126


@dataclass(frozen=True, kw_only=True)
class AbsMaxScale:
    """The largest magnitude maps to the largest value of the format."""


@dataclass(frozen=True, kw_only=True)
class PowerOfTwoScale:
    """The smallest power of two that is at least the absmax scale: scaling is a shift and nothing clips.

    But for values beyond qmax 2^127, the largest power of two that is a float32.
    """


@dataclass(frozen=True, kw_only=True)
class MinMaxScale:
    """Asymmetric: the range from min(x, 0) to max(x, 0) maps to qmin .. qmax with a zero point.

    The zero point is round(qmin - min * inv), so zero is represented exactly. Integer formats only.
    """


@dataclass(frozen=True)
class FixedScale:
    """The same scale always.

    Args:
        value: The scale; finite, at least 2^-126 and a float32 value.

    Raises:
        ValueError: A scale outside that range.
    """

    value: float

    def __post_init__(self) -> None:
        if not MIN_SCALE <= self.value <= torch.finfo(torch.float32).max:
            raise ValueError(f"a fixed scale is a finite number of at least 2^-126, got {self.value}")
        if float(torch.tensor(self.value, dtype=torch.float32)) != self.value:
            raise ValueError(f"a fixed scale is a float32 value, got {self.value!r}")


ScaleRule = AbsMaxScale | PowerOfTwoScale | MinMaxScale | FixedScale


def reduces(rule: ScaleRule) -> bool:
    """Whether the rule reads the whole tensor before the first element can be quantised."""
    return not isinstance(rule, FixedScale)


def scale_and_zero_point(
    x: Tensor, fmt: Format, granularity: Granularity, rule: ScaleRule
) -> tuple[Tensor, Tensor | None]:
    """The scale, and the zero point if the rule has one.

    Args:
        x: float32 of any shape, without NaN.
        fmt: The format that x will be quantised to.
        granularity: Which elements share a scale.
        rule: The scale rule.

    Returns:
        Scale float32 and zero point int32 (or None), both of shape `scale_shape(granularity, x.shape)`.
    """
    shape = scale_shape(granularity, tuple(x.shape))
    if isinstance(rule, FixedScale):
        return torch.full(shape, rule.value, dtype=torch.float32, device=x.device), None
    if isinstance(rule, MinMaxScale):
        assert isinstance(fmt, IntFormat)
        return _min_max(x, fmt, shape)
    scale = _positive(_absmax(x, shape), torch.full_like(_zeros(x, shape), fmt.max_value))
    return (_next_power_of_two(scale) if isinstance(rule, PowerOfTwoScale) else scale), None


def _zeros(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32, device=x.device)


def _reduce(x: Tensor, shape: tuple[int, ...], largest: bool) -> Tensor:
    """Maximum (or minimum) over the elements that share a scale; 0 where there are none."""
    if x.numel() == 0:
        return _zeros(x, shape)
    if math.prod(shape) == 1:
        return (x.amax() if largest else x.amin()).reshape(shape)
    dims = [i for i, n in enumerate(shape) if n != x.shape[i]]
    if not dims:  # amax over no axes would reduce over all of them
        return x
    return x.amax(dims, keepdim=True) if largest else x.amin(dims, keepdim=True)


def _extremes(x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    low, high = _reduce(x, shape, largest=False), _reduce(x, shape, largest=True)
    if torch.isinf(low).any() or torch.isinf(high).any():
        x = torch.where(torch.isinf(x), torch.zeros((), device=x.device), x)
        low, high = _reduce(x, shape, largest=False), _reduce(x, shape, largest=True)
    return low, high


def _absmax(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    low, high = _extremes(x, shape)
    return torch.maximum(high, -low)


def _positive(numerator: Tensor, denominator: Tensor) -> Tensor:
    # Both are tensors: dividing by a Python number multiplies by its reciprocal on a GPU, which differs.
    scale = torch.clamp(numerator / denominator, MIN_SCALE, torch.finfo(torch.float32).max)
    return torch.where(numerator == 0, torch.ones_like(scale), scale)


def _next_power_of_two(scale: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(scale)  # mantissa in [0.5, 1)
    exponent = exponent - (mantissa == 0.5).to(exponent.dtype)
    return torch.ldexp(torch.ones_like(scale), torch.clamp(exponent, max=127))


def _min_max(x: Tensor, fmt: IntFormat, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    low, high = _extremes(x, shape)
    zero = torch.zeros_like(low)
    low, high = torch.minimum(low, zero), torch.maximum(high, zero)
    # Halves, because high - low may exceed the float32 range.
    span = high * 0.5 - low * 0.5
    scale = _positive(span, torch.full_like(span, (fmt.qmax - fmt.qmin) * 0.5))
    offset = torch.round(fmt.qmin - low * (1.0 / scale))
    return scale, torch.clamp(offset, fmt.qmin, fmt.qmax).to(torch.int32)
