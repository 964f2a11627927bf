"""How a scale is chosen: the rules, as data. `scaling.py` evaluates them.

| rule                      | scale, before it is made a float32 of at least 2^-126                    |
|---------------------------|--------------------------------------------------------------------------|
| `AbsMaxScale`             | absmax / max_value                                                       |
| `PowerOfTwoScale`         | the smallest power of two that is at least that                          |
| `MinMaxScale`             | (max(x, 0) - min(x, 0)) / (qmax - qmin), with a zero point               |
| `FixedScale`              | a number                                                                 |
| `EmaScale`                | (running maximum of past calls) / max_value                              |
| `PercentileScale`         | (an order statistic of |x|) / max_value                                  |
| `SawbScale`               | (c1 sqrt(mean x^2) - c2 mean |x|) / max_value                            |
| `MseScale`                | c / max_value with c minimising the mean squared error                   |
| `DirectionSensitiveScale` | c / max_value with c minimising 1 - cos(x, quantised x)                  |
| `LearnedScale`            | a parameter that training adjusts                                        |
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowbit_sim.numerics.whole import is_whole

MIN_SCALE = 2.0**-126


@dataclass(frozen=True, kw_only=True)
class AbsMaxScale:
    """The largest magnitude maps to a value of the format: its largest, unless another is given.

    Args:
        top: The value that the largest magnitude maps to; None for the format's largest. Two formats that
            shall be scaled alike are given the same.

    Raises:
        ValueError: `top` is not a positive finite number.
    """

    top: float | None = None

    def __post_init__(self) -> None:
        if self.top is not None and not 0 < self.top <= torch.finfo(torch.float32).max:
            raise ValueError(f"top is a positive finite number, got {self.top!r}")


@dataclass(frozen=True, kw_only=True)
class PowerOfTwoScale:
    """The smallest power of two that is at least the absmax scale: scaling is a shift and nothing clips.

    But for values beyond qmax 2^127, the largest power of two that is a float32.
    """


@dataclass(frozen=True, kw_only=True)
class MinMaxScale:
    """Asymmetric: the range from min(x, 0) to max(x, 0) maps to qmin .. qmax with a zero point.

    The zero point is round(qmin - min * inv), so zero is represented exactly. Integer formats only.

    Args:
        unclipped: Map to one step less, with the zero point qmin + ceil(-min * inv). A rounded zero point
            moves one end of the range beyond the codes by up to half a step, which clips what stochastic
            rounding takes there; with the step to spare nothing does, and its mean stays the value.
    """

    unclipped: bool = False


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


@dataclass(frozen=True)
class EmaScale:
    """In hindsight: the scale comes from the calls before, so that a tensor is read once.

    m_t = fp32(fp32((1 - momentum) |x_{t-1}|_max) + fp32(momentum m_{t-1})); the scale of call t is m_t / max_value. A
    region without a past, or with nothing but zeros in it, takes its own maximum. Larger values than m_t saturate.
    Sources: Fournarakis & Nagel 2021 (in-hindsight range estimation), Chmiel et al. 2023 (LUQ, maximum in hindsight).
    Needs a `ScaleState`.

    Args:
        momentum: Weight of the past, from 0 (the last call alone) up to, not including, 1.

    Raises:
        ValueError: A momentum outside that range.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is from 0 up to, not including, 1, got {self.momentum!r}")


@dataclass(frozen=True)
class PercentileScale:
    """The nearest-rank percentile of the magnitudes maps to the largest value of the format; the rest saturates.

    Of n finite elements the ceil(p n / 100)-th smallest magnitude, p read as the decimal number that it prints
    as. If that is 0 though not all are, the largest magnitude.

    Args:
        percentile: Above 0, at most 100.

    Raises:
        ValueError: A percentile outside that range.
    """

    percentile: float = 99.9

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError(f"a percentile is above 0 and at most 100, got {self.percentile!r}")


@dataclass(frozen=True, kw_only=True)
class SawbScale:
    """Statistics-aware weight binning: a clip that is near the best in mean squared error for weights.

    clip = c1 sqrt(mean x^2) - c2 mean |x|, the sums in float64; the largest magnitude where that is not positive.
    Formula: Choi et al. 2019, "Accurate and efficient 2-bit quantized neural networks" (MLSys).
    The coefficients are those of IBM's FMS Model Optimizer for grids with a zero: 2.6, 1.71 (int2); 12.035, 12.03
    (int4); 31.76, 35.04 (int8). Symmetric integers of 2, 4 and 8 bits only.
    """


@dataclass(frozen=True, kw_only=True)
class MseScale:
    """The clip that minimises the mean squared error of rounding to nearest even.

    The clip's ratio to the largest magnitude is searched on a grid of 1/32, then by Brent's method
    (`scipy.optimize.minimize_scalar`) between the neighbours of the best; the best point met is taken, so the error
    is never larger than with `AbsMaxScale`. Deterministic.
    """


@dataclass(frozen=True)
class DirectionSensitiveScale:
    """The clip that minimises 1 - cos(x, x') of rounding to nearest even, for gradients; searched as `MseScale`.

    Source: Zhu et al. 2020, "Towards Unified INT8 Training for Convolutional Neural Network" (CVPR),
    which takes a few gradient steps on the clip at each search.

    Args:
        period: Search at every period-th call and keep the clip in between, which needs a `ScaleState`; 1 searches
            always.

    Raises:
        ValueError: A period below 1.
    """

    period: int = 1

    def __post_init__(self) -> None:
        if not is_whole(self.period, 1, (1 << 31) - 1):
            raise ValueError(f"a period is a whole number of calls, at least 1, got {self.period!r}")


@dataclass(frozen=True, kw_only=True)
class LearnedScale:
    """A learned step (LSQ; Esser et al. 2020): `ScaleState.value` is the scale, and training adjusts it.

    A state without a value is given LSQ's first one, 2 mean|x| / sqrt(max_value), by the first call. The gradient is
    `learned_step.learned_step`'s. Needs a `ScaleState`.
    """


ScaleRule = (
    AbsMaxScale
    | PowerOfTwoScale
    | MinMaxScale
    | FixedScale
    | EmaScale
    | PercentileScale
    | SawbScale
    | MseScale
    | DirectionSensitiveScale
    | LearnedScale
)


def reduces(rule: ScaleRule) -> bool:
    """Whether the rule reads the whole tensor before the first element can be quantised."""
    return not isinstance(rule, FixedScale | EmaScale | LearnedScale)


def needs_state(rule: ScaleRule) -> bool:
    """Whether the rule remembers something between calls."""
    periodic = isinstance(rule, DirectionSensitiveScale) and rule.period > 1
    return isinstance(rule, EmaScale | LearnedScale) or periodic
