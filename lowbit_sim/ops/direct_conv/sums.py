"""The three GEMMs of a convolution whose sums fit 32 bits in any order, without its matrices in memory.

| role        | how                                                                                          |
|-------------|----------------------------------------------------------------------------------------------|
| output      | the library's convolution of the input's codes                                               |
| grad_input  | the same of grad_output's codes, spread by the stride, with the kernel turned by 180 degrees |
| grad_weight | windows of a few images at a time, times grad_output on the same grid: `_int_mm`             |

Each works on so many images at a time as a core's second-level cache holds. Each returns what
`ConvContraction.assemble` would make of fp32(sums), times the scale: the same bits.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from torch import Tensor

from lowbit_sim.ops.contraction import BoundedCodes
from lowbit_sim.ops.direct_conv.blocks import Placement, convolution
from lowbit_sim.ops.direct_conv.weight_gradient import weight_gradient
from lowbit_sim.ops.im2col import Sizes, Window
from lowbit_sim.trace import Role


def scaled_sums(
    role: Role,
    lhs: BoundedCodes,
    rhs: BoundedCodes,
    scale: Tensor,
    x_shape: Sizes,
    w_shape: Sizes,
    window: Window,
) -> Tensor | None:
    """fp32(sums) * scale of one GEMM of a convolution with two spatial axes, or None where there is no such way here.

    Args:
        role: Which GEMM.
        lhs: The left tensor's codes.
        rhs: The right one's.
        scale: float32, broadcasts against the result.
        x_shape: [N, C, H, W].
        w_shape: [O, C/groups, R, S].
        window: The geometry.
    """
    if not (lhs.codes.numel() and rhs.codes.numel() and math.prod(x_shape) and math.prod(w_shape)):
        return None
    match role:
        case "output":
            return convolution(lhs, _around_input(window), rhs.codes, scale, window)
        case "grad_input":
            placement = _around_gradient(window, tuple(lhs.codes.shape[2:]), x_shape[2:])
            return convolution(lhs, placement, _turned(rhs.codes, window.groups), scale, _of_gradient(window))
        case _:
            return weight_gradient(lhs.codes, rhs.codes, scale, w_shape, window)


@functools.lru_cache(maxsize=4096)
def _around_input(window: Window) -> Placement:
    return Placement(spread=(1, 1), before=window.before, after=window.after)


@functools.lru_cache(maxsize=4096)
def _around_gradient(window: Window, size: Sizes, in_size: Sizes) -> Placement:
    """grad_output of a spatial size, spread by the stride, for the gradient of an input of another."""
    before = tuple(span - zeros for span, zeros in zip(window.span, window.before, strict=True))
    alone = Placement(spread=window.stride, before=before, after=(0, 0)).size(size)
    after = tuple(n + span - have for n, span, have in zip(in_size, window.span, alone, strict=True))
    return Placement(spread=window.stride, before=before, after=after)


@functools.lru_cache(maxsize=4096)
def _of_gradient(window: Window) -> Window:
    return replace(window, stride=(1, 1))


def _turned(w: Tensor, groups: int) -> Tensor:
    """The kernels turned by 180 degrees, int8 [C, O/groups, R, S]."""
    if groups > 1:
        w = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    else:
        w = w.transpose(0, 1)
    return w.flip(2, 3).contiguous()
