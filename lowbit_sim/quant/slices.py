"""Scales of a tensor of which this process holds a slice: the scale rules see the extremes of the whole.

A rule that reads nothing but the extremes of each region finds the scale of the whole tensor in a small stand-in: a
tensor with the whole's extremes in the same regions. Only the extremes travel between the processes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import BlockFormat, ExponentFormat, Format
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerBlock, PerGroup, PerSample, axis_of, written
from lowbit_sim.quant.regions import extremes
from lowbit_sim.quant.scale_rules import (
    AbsMaxScale,
    EmaScale,
    FixedScale,
    MinMaxScale,
    PowerOfTwoScale,
    ScaleRule,
)

#: The element-wise maximum of a float32 tensor over the processes that hold slices.
ReduceMax = Callable[[Tensor], Tensor]

_FROM_EXTREMES = (AbsMaxScale, PowerOfTwoScale, MinMaxScale, EmaScale)


def scale_source(
    x: Tensor, fmt: Format, granularity: Granularity, rule: ScaleRule, reduce_max: ReduceMax
) -> Tensor:
    """The tensor that the scales of a slice are to be computed from.

    Args:
        x: float32, without NaN: a slice along the first axis of the whole tensor.
        fmt: The format that x will be quantised to.
        granularity: Which elements of the whole share a scale.
        rule: The scale rule.
        reduce_max: Exchanges the extremes. Every process calls it for the same tensors in the same order.

    Returns:
        x itself where no region reaches into another slice, else a stand-in with the same scales as the whole.

    Raises:
        ValueError: A rule or format whose scale is not a function of the extremes, or groups of the first axis.
    """
    if isinstance(rule, FixedScale) or _within_slice(x, fmt, granularity):
        return x
    if not isinstance(rule, _FROM_EXTREMES):
        known = ", ".join(kind.__name__ for kind in (FixedScale, *_FROM_EXTREMES))
        raise ValueError(f"{rule} can't be found from the extremes of a batch's slices; {known} can")
    if isinstance(fmt, BlockFormat) and not isinstance(fmt.scale, ExponentFormat):
        raise ValueError(
            f"{fmt} has a scale for the whole tensor over those of its blocks: it can't be sliced"
        )
    if isinstance(granularity, PerGroup) and axis_of(granularity, tuple(x.shape)) == 0:
        raise ValueError(f"{written(granularity)} groups samples that different slices hold: use PerSample()")
    low, high = extremes(x, granularity)
    return torch.cat([-reduce_max(-low), reduce_max(high)])  # both have one index on the first axis


def _within_slice(x: Tensor, fmt: Format, granularity: Granularity) -> bool:
    if x.ndim == 0:
        return True
    if isinstance(fmt, BlockFormat) and fmt.tensor_scale:
        return False
    if isinstance(granularity, PerBlock):
        return x.ndim > 1
    return isinstance(granularity, PerAxis | PerSample) and axis_of(granularity, tuple(x.shape)) == 0
