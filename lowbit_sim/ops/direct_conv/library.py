"""oneDNN's int8 convolution, checked once for each geometry before it is trusted.

It multiplies unsigned by signed codes: a signed code c enters as c + z with the zero point z. It adds the products in
int32, converts the sum to float32, takes off z sum(w), and multiplies by a scale. So the result is fp32(sum) * scale
where no sum of (c + z) w exceeds 2^24 (`fits_float32`), and never otherwise. There is no padding, which would add
zero points of its own.

Integers leave no room for Winograd's or FFT's rounding, but processors without VNNI add pairs of products in 16
saturating bits. So each geometry runs once on extreme codes against a float64 matrix product; where they differ, or
the library lacks the operator, it is not used.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit_sim.ops.im2col import Sizes, Window, input_windows

#: Integers up to this are exact in float32.
_FLOAT32_EXACT = 1 << 24


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
    most = _FLOAT32_EXACT // (largest + zero_point)
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
    scale = torch.ones(weight.shape[0], dtype=torch.float32)
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
        geometry: The geometry; `is_sound` holds for it.
    """
    stride, dilation = list(geometry.stride), list(geometry.dilation)
    zero_points = torch.zeros(scale.shape[0], dtype=torch.int64)
    operands = (codes, 1.0, zero_point, packed, scale, zero_points, None)
    return torch.ops.onednn.qconv_pointwise(
        *operands, stride, [0, 0], dilation, geometry.groups, 1.0, 0, torch.float32, "none", [], ""
    )


def is_sound(geometry: Geometry) -> bool:
    """Whether the library's convolution is exact for a geometry here, checked once per process and thread count."""
    return _is_sound(geometry, torch.get_num_threads())


@functools.cache
def _is_sound(geometry: Geometry, threads: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    batch, channels, *size = geometry.x_shape
    images = torch.randint(-128, 128, (2, channels, *size), dtype=torch.int8, generator=generator)
    images[0] = 127
    weight = _extreme_weight(geometry.w_shape, generator)
    scale = torch.rand(geometry.w_shape[0], generator=generator) + 0.5
    codes = (images.view(torch.uint8) ^ 128)[torch.arange(batch) % 2]
    try:
        packed = pack(weight, 128, geometry)
        found = convolve(codes.contiguous(memory_format=torch.channels_last), 128, packed, scale, geometry)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    expected = _by_matrices(images, weight, geometry) * scale[:, None, None]
    return torch.equal(found, expected[torch.arange(batch) % 2])


def _extreme_weight(shape: Sizes, generator: torch.Generator) -> Tensor:
    """Codes of both signs, of one sign and the largest ones, as large as `fits_float32` allows."""
    weight = torch.zeros(shape, dtype=torch.int8).flatten(1)
    reduction = weight.shape[1]
    most = _FLOAT32_EXACT // 255
    some = min(reduction, most // (2 * 127))
    usual = min(127, most // (2 * reduction))
    weight[:] = torch.randint(-usual, usual + 1, weight.shape, dtype=torch.int8, generator=generator)
    weight[:, :some] = torch.randint(-127, 128, (shape[0], some), dtype=torch.int8, generator=generator)
    weight[::3, :some], weight[1::3, :some] = 127, -127
    return weight.reshape(shape)


def _by_matrices(images: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """float32(sums) [2, O, H', W'] by matrix products in float64, where all sums are exact."""
    window = Window(
        kernel=geometry.w_shape[2:],
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    kernels = (
        weight.movedim(1, -1).flatten(1).double().chunk(geometry.groups)
    )  # [O/groups, R S C/groups] each
    columns = input_windows(images, window)
    parts = [c.double() @ k.t() for c, k in zip(columns, kernels, strict=True)]
    rows = torch.cat(parts, dim=1).reshape(len(images), *window.output_size(*images.shape[2:]), -1)
    return rows.movedim(-1, 1).to(torch.float32)
