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
            placement = Placement(spread=(1, 1), before=window.before, after=window.after)
            return convolution(lhs, placement, rhs.codes, scale, window)
        case "grad_input":
            return _grad_input(lhs, rhs.codes, scale, x_shape, window)
        case _:
            return weight_gradient(lhs.codes, rhs.codes, scale, w_shape, window)


def _grad_input(g: BoundedCodes, w: Tensor, scale: Tensor, x_shape: Sizes, window: Window) -> Tensor | None:
    before = tuple(span - zeros for span, zeros in zip(window.span, window.before, strict=True))
    alone = Placement(spread=window.stride, before=before, after=(0, 0)).size(tuple(g.codes.shape[2:]))
    after = tuple(n + span - have for n, span, have in zip(x_shape[2:], window.span, alone, strict=True))
    turned = w.unflatten(0, (window.groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3).contiguous()
    placement = Placement(spread=window.stride, before=before, after=after)
    return convolution(g, placement, turned, scale, replace(window, stride=(1, 1)))
