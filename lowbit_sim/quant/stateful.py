"""Scale rules with a memory: running maximum, periodic search, learned step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import Format
from lowbit_sim.quant.granularity import Granularity, scale_shape, written
from lowbit_sim.quant.regions import absmax, rows, spread
from lowbit_sim.quant.scale_rules import MIN_SCALE
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.quant.sums import row_means


def _remembered(state: ScaleState, x: Tensor, granularity: Granularity) -> Tensor | None:
    """The state's value, checked against the tensor.

    Raises:
        ValueError: A value of another shape than the scales'.
    """
    shape = scale_shape(granularity, tuple(x.shape))
    if state.value is not None and tuple(state.value.shape) != shape:
        raise ValueError(
            f"the ScaleState holds a value of shape {list(state.value.shape)}, but a tensor of shape "
            f"{list(x.shape)} with {written(granularity)} has scales of shape {list(shape)}: "
            "one state serves one tensor"
        )
    # A checkpoint's value comes back on the CPU.
    return None if state.value is None else state.value.detach().to(x.device, torch.float32)


def running_absmax(x: Tensor, granularity: Granularity, momentum: float, state: ScaleState) -> Tensor:
    """The maximum that `EmaScale` uses for this call; the state takes in this call's maximum."""
    current = absmax(x, granularity)
    past = _remembered(state, x, granularity)
    used = current if past is None else torch.where(past == 0, current, past)
    if not state.frozen:
        weight = torch.full_like(current, momentum)
        # The rest of the weight is rounded to float32 once, from the float64 difference.
        rest = torch.full_like(current, 1.0 - momentum)
        state.value = (
            current if past is None else torch.where(past == 0, current, rest * current + weight * past)
        )
        state.calls += 1
    return used


def every(
    period: int, state: ScaleState | None, x: Tensor, granularity: Granularity, search: Callable[[], Tensor]
) -> Tensor:
    """The clip that a search finds, searched for again every period-th call."""
    if state is None:
        return search()
    clip = _remembered(state, x, granularity)
    if clip is None or (not state.frozen and state.calls % period == 0):
        clip = search()
    if not state.frozen:
        state.value = clip
        state.calls += 1
    return clip


def first_step(x: Tensor, fmt: Format, granularity: Granularity) -> Tensor:
    """LSQ's first step, fp32(2 mean|x| / sqrt(max_value)) with the mean in float64; 1 for all zeros.

    Source: Esser et al. 2020, "Learned Step Size Quantization" (ICLR). Infinities count as zeros.
    """
    if x.is_meta:
        return torch.empty(scale_shape(granularity, tuple(x.shape)), dtype=torch.float32, device="meta")
    values = []
    for part in rows(x, granularity):
        mean = row_means(torch.where(torch.isinf(part), 0.0, part).abs())
        step = 2 * mean / torch.full_like(mean, math.sqrt(fmt.max_value))
        values.append(
            torch.where(step == 0, 1.0, step).clamp(MIN_SCALE, torch.finfo(torch.float32).max).float()
        )
    return spread(values, granularity, tuple(x.shape), empty=1.0, device=x.device)


def learned_scale(x: Tensor, fmt: Format, granularity: Granularity, state: ScaleState) -> Tensor:
    """The state's step, never below 2^-126; `first_step` where there is none yet.

    Raises:
        ValueError: A step that is not finite.
    """
    step = _remembered(state, x, granularity)
    if step is None:
        step = first_step(x, fmt, granularity)
        if not state.frozen:
            state.value = step
    elif not torch.isfinite(step).all():
        raise ValueError(
            f"a learned step is finite, got {step.flatten()[~torch.isfinite(step.flatten())][0]}"
        )
    if not state.frozen:
        state.calls += 1
    return torch.clamp(step, min=MIN_SCALE)
