"""Evaluates the scale rules: the scale (and zero point) of each region of a tensor.

All arithmetic is float32, each operation rounded once, so that every backend finds the same scale:
scale = fp32(clip / max_value), never below 2^-126 (so that no reciprocal overflows), 1 where the clip is 0.
Infinite elements are left out; they saturate. Where a region is all zero but the format has no zero, the scale is
2^-126, so that its elements stay next to nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.numerics.formats import CodebookFormat, ExponentFormat, Format, IntFormat
from lowbit_sim.quant.block_scaling import power_of_two
from lowbit_sim.quant.granularity import Granularity, scale_shape
from lowbit_sim.quant.regions import absmax, extremes
from lowbit_sim.quant.scale_rules import MIN_SCALE as MIN_SCALE
from lowbit_sim.quant.scale_rules import AbsMaxScale as AbsMaxScale
from lowbit_sim.quant.scale_rules import DirectionSensitiveScale as DirectionSensitiveScale
from lowbit_sim.quant.scale_rules import EmaScale as EmaScale
from lowbit_sim.quant.scale_rules import FixedScale as FixedScale
from lowbit_sim.quant.scale_rules import LearnedScale as LearnedScale
from lowbit_sim.quant.scale_rules import MinMaxScale as MinMaxScale
from lowbit_sim.quant.scale_rules import MseScale as MseScale
from lowbit_sim.quant.scale_rules import PercentileScale as PercentileScale
from lowbit_sim.quant.scale_rules import PowerOfTwoScale as PowerOfTwoScale
from lowbit_sim.quant.scale_rules import SawbScale as SawbScale
from lowbit_sim.quant.scale_rules import ScaleRule as ScaleRule
from lowbit_sim.quant.scale_rules import needs_state as needs_state
from lowbit_sim.quant.scale_rules import reduces as reduces
from lowbit_sim.quant.scale_state import ScaleState as ScaleState

MAX_SCALE = float(torch.finfo(torch.float32).max)

#: A zero point with a step to spare: covers the three roundings (division, reciprocal, product) of both ends.
_UNCLIPPED_MARGIN = 1 + 2.0**-21


def scale_and_zero_point(
    x: Tensor, fmt: Format, granularity: Granularity, rule: ScaleRule, state: ScaleState | None = None
) -> tuple[Tensor, Tensor | None]:
    """The scale, and the zero point if the rule has one.

    Args:
        x: float32 of any shape, without NaN.
        fmt: The format that x will be quantised to.
        granularity: Which elements share a scale.
        rule: The scale rule.
        state: What a stateful rule remembers; updated unless frozen.

    Returns:
        Scale float32 and zero point int32 (or None), both of shape `scale_shape(granularity, x.shape)`.

    Raises:
        ValueError: A stateful rule without a state, or with one that fits another tensor.
    """
    if needs_state(rule) and state is None:
        raise ValueError(f"{rule} remembers something between calls: pass state=ScaleState()")
    if isinstance(rule, MinMaxScale):
        assert isinstance(fmt, IntFormat)
        return _min_max(x, fmt, granularity, rule)
    return _scale(x, fmt, granularity, rule, state), None


def _scale(
    x: Tensor, fmt: Format, granularity: Granularity, rule: ScaleRule, state: ScaleState | None
) -> Tensor:
    # The rules that few use live in modules of their own, imported where one is evaluated.
    from lowbit_sim.quant import clipping, stateful

    match rule:
        case FixedScale(value):
            return torch.full(
                scale_shape(granularity, tuple(x.shape)), value, dtype=torch.float32, device=x.device
            )
        case AbsMaxScale(top=top):
            return scale_of_clip(absmax(x, granularity), fmt, top)
        case PowerOfTwoScale():
            return _next_power_of_two(scale_of_clip(absmax(x, granularity), fmt))
        case EmaScale(momentum):
            assert state is not None
            return scale_of_clip(stateful.running_absmax(x, granularity, momentum, state), fmt)
        case PercentileScale(percentile):
            return scale_of_clip(clipping.percentile_clip(x, granularity, percentile), fmt)
        case SawbScale():
            return scale_of_clip(clipping.sawb_clip(x, fmt, granularity), fmt)
        case MseScale():
            return scale_of_clip(clipping.mse_clip(x, fmt, granularity), fmt)
        case DirectionSensitiveScale(period):
            clip = stateful.every(
                period, state, x, granularity, lambda: clipping.cosine_clip(x, fmt, granularity)
            )
            return scale_of_clip(clip, fmt)
        case LearnedScale():
            assert state is not None
            return stateful.learned_scale(x, fmt, granularity, state)
    raise TypeError(f"{rule!r} is not a scale rule")


def has_zero(fmt: Format) -> bool:
    """Whether zero is one of the format's values: of all but some codebooks and E8M0."""
    return 0.0 in fmt.values if isinstance(fmt, CodebookFormat) else not isinstance(fmt, ExponentFormat)


def scale_of_clip(clip: Tensor, fmt: Format, top: float | None = None) -> Tensor:
    """fp32(clip / top) in bounds, where `top` is by default the format's largest value; 1 where the clip is 0."""
    bound = fmt.max_value if top is None else top
    return _positive(clip, bound, 1.0 if has_zero(fmt) else MIN_SCALE)


def _positive(numerator: Tensor, denominator: float, of_zero: float = 1.0) -> Tensor:
    if numerator.device.type == "cpu":
        return _positive_on_cpu(numerator, denominator, of_zero)
    # Both are tensors: dividing by a Python number multiplies by its reciprocal on a GPU, which differs.
    scale = torch.clamp(numerator / torch.full_like(numerator, denominator), MIN_SCALE, MAX_SCALE)
    return torch.where(numerator == 0, torch.full_like(scale, of_zero), scale)


def _positive_on_cpu(numerator: Tensor, denominator: float, of_zero: float) -> Tensor:
    # There are few scales in most tensors, and numpy's operations start sooner than torch's.
    values = numerator.reshape(-1).numpy()
    with np.errstate(over="ignore"):
        scale = values / np.float32(denominator)
    scale = scale.clip(np.float32(MIN_SCALE), np.float32(MAX_SCALE))
    scale[values == 0] = of_zero
    return torch.from_numpy(scale).reshape(numerator.shape)


def _next_power_of_two(scale: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(scale)  # mantissa in [0.5, 1)
    exponent = exponent - (mantissa == 0.5).to(exponent.dtype)
    # Not ldexp: torch's multiplies by a power that a GPU approximates.
    return power_of_two(torch.clamp(exponent, max=127))


def _min_max(x: Tensor, fmt: IntFormat, granularity: Granularity, rule: MinMaxScale) -> tuple[Tensor, Tensor]:
    low, high = extremes(x, granularity)
    zero = torch.zeros_like(low)
    low, high = torch.minimum(low, zero), torch.maximum(high, zero)
    # Halves, because high - low may exceed the float32 range.
    span = high * 0.5 - low * 0.5
    steps = fmt.qmax - fmt.qmin - (1 if rule.unclipped else 0)
    scale = _positive(span, steps * 0.5)
    if rule.unclipped:
        scale = torch.where(span == 0, scale, torch.clamp(scale * _UNCLIPPED_MARGIN, max=MAX_SCALE))
        offset = torch.ceil(-low * (1.0 / scale)) + fmt.qmin
    else:
        offset = torch.round(fmt.qmin - low * (1.0 / scale))
    return scale, torch.clamp(offset, fmt.qmin, fmt.qmax).to(torch.int32)
