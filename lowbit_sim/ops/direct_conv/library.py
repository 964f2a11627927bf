"""oneDNN's int8 convolution: `soundness.py` checks it for each geometry before it is trusted.

It multiplies unsigned by signed codes: a signed code c enters as c + z with the zero point z. It adds the products in
int32, converts the sum to float32, takes off z sum(w), and multiplies by a scale. So the result is fp32(sum) * scale
where no sum of (c + z) w exceeds 2^24 (`fits_float32`), and never otherwise. There is no padding, which would add
zero points of its own.

Integers leave no room for Winograd's or FFT's rounding, but processors without VNNI add pairs of products in 16
saturating bits, and a library may lack the operator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.ops.im2col import Sizes

#: Integers up to this are exact in float32.
FLOAT32_EXACT = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A convolution of x [N, C, H, W] and w [O, C/groups, R, S] without padding.

    Args:
        x_shape: Shape of x.
        w_shape: Shape of w.
        stride: Stride.
        dilation: Dilation.
        groups: Groups of channels.
    """

    x_shape: Sizes
    w_shape: Sizes
    stride: Sizes
    dilation: Sizes
    groups: int


def fits_float32(weight: Tensor, largest: int, zero_point: int) -> bool:
    """Whether no sum of (c + zero point) w leaves float32's exact integers.

    Args:
        weight: int8 [O, C/groups, R, S].
        largest: The largest magnitude of a code, at most the zero point.
        zero_point: The zero point.
    """
    rows = weight.flatten(1)
    most = FLOAT32_EXACT // (largest + zero_point)
    if rows.shape[1] << 7 <= most:
        return True
    from lowbit_sim.ops.direct_conv.layout_kernel import largest_one_sided_sum

    return largest_one_sided_sum(rows.numpy()) <= most


def pack(weight: Tensor, zero_point: int, geometry: Geometry) -> Tensor:
    """The kernels in the library's own order; any batch size of the geometry may use them.

    Args:
        weight: int8 [O, C/groups, R, S], contiguous; `fits_float32` holds for it.
        zero_point: What stands for 0 among the inputs' codes.
        geometry: The geometry.
    """
    stride, dilation = list(geometry.stride), list(geometry.dilation)
    scale = weight.new_ones(
        1, dtype=torch.float32
    )  # one for all makes a shorter copy than one for each kernel
    return torch.ops.onednn.qconv_prepack(
        weight, scale, 1.0, zero_point, stride, [0, 0], dilation, geometry.groups, None
    )


def convolve(codes: Tensor, zero_point: int, packed: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
    """fp32(sums) * scale, float32 [N, O, H', W'] in channels-last order.

    Args:
        codes: uint8 [N, C, H, W] in channels-last order, each the zero point more than it means.
        zero_point: What stands for 0.
        packed: The kernels, by `pack`.
        scale: float32 [O].
        geometry: The geometry; `soundness.is_sound` holds for it.
    """
    stride, dilation = list(geometry.stride), list(geometry.dilation)
    zero_points = scale.new_zeros(scale.shape[0], dtype=torch.int64)
    operands = (codes, 1.0, zero_point, packed, scale, zero_points, None)
    return torch.ops.onednn.qconv_pointwise(
        *operands, stride, [0, 0], dilation, geometry.groups, 1.0, 0, torch.float32, "none", [], ""
    )
