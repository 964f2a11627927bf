"""Whether the library's int8 convolution is exact for a geometry: it runs once, on codes chosen to break it.

The geometry that is checked is the one that will run, as the library chooses its code by all of it. Two images are
convolved with weights as large as `fits_float32` allows:

| image         | what is compared                                                                        |
|---------------|-----------------------------------------------------------------------------------------|
| all codes 127 | every output of every channel: all positions have the same sum                          |
| random codes  | some positions, all four corners among them, with the definition's sums in float64      |

So the check costs two convolutions and a bounded number of products, whatever the size of the images.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lowbit_sim.ops.direct_conv import library
from lowbit_sim.ops.direct_conv.library import FLOAT32_EXACT, Geometry
from lowbit_sim.ops.im2col import Window

#: Products of the definition that a check may take, and the positions that are enough.
_CHECKED_PRODUCTS = 1 << 24
_POSITIONS = 256

_ZERO_POINT = 128

#: Random codes that are repeated through an image: a prime, so that rows and channels of no usual image repeat.
_RANDOM_CODES = 65_537


def is_sound(geometry: Geometry) -> bool:
    """Whether the library's convolution is exact for a geometry here, checked once per process and thread count.

    Args:
        geometry: The geometry.

    Raises:
        RuntimeError: There is not enough memory for the check; the next call tries again.
    """
    return _is_sound(geometry, torch.get_num_threads())


@functools.lru_cache(maxsize=4096)
def _is_sound(geometry: Geometry, threads: int) -> bool:
    generator = torch.Generator(device="cpu").manual_seed(0)
    weight = _extreme_weight(geometry, generator)
    scale = 0.5 + torch.rand(len(weight), dtype=torch.float32, generator=generator, device="cpu")
    images = [_constant_image(geometry), _random_image(geometry, generator)]
    results = _convolved(images, weight, scale, geometry)
    if results is None:
        return False
    constant = results[0]
    if not torch.equal(constant, constant[:, :, :1, :1].expand_as(constant)):
        return False
    at = positions(geometry, generator)
    return all(
        torch.equal(found, found[:1].expand_as(found))
        and torch.equal(found[0][:, at[:, 0], at[:, 1]].t(), sums_at(image, weight, at, geometry) * scale)
        for image, found in zip(images, results, strict=True)
    )


def _convolved(
    images: list[Tensor], weight: Tensor, scale: Tensor, geometry: Geometry
) -> list[Tensor] | None:
    """The library's results [N, O, H', W'] for N times each image, or None where it has none to offer."""
    batches = [
        (image.view(torch.uint8) ^ _ZERO_POINT)
        .expand(geometry.x_shape)
        .contiguous(memory_format=torch.channels_last)
        for image in images
    ]
    try:
        packed = library.pack(weight, _ZERO_POINT, geometry)
        return [library.convolve(codes, _ZERO_POINT, packed, scale, geometry) for codes in batches]
    except (AttributeError, NotImplementedError):
        return None  # a build of torch without oneDNN, or an older one
    except RuntimeError as error:
        if _out_of_memory(error):
            raise
        return None  # oneDNN has no code for this geometry on this processor


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "memory" in str(error)


def _constant_image(geometry: Geometry) -> Tensor:
    """The largest code, int8 [C, H, W]."""
    return torch.full(geometry.x_shape[1:], 127, dtype=torch.int8, device="cpu")


def _random_image(geometry: Geometry, generator: torch.Generator) -> Tensor:
    """All codes, int8 [C, H, W]."""
    size = torch.Size(geometry.x_shape[1:])
    some = torch.randint(-128, 128, (_RANDOM_CODES,), dtype=torch.int8, generator=generator, device="cpu")
    return some.repeat(-(-size.numel() // _RANDOM_CODES))[: size.numel()].reshape(size)


def _extreme_weight(geometry: Geometry, generator: torch.Generator) -> Tensor:
    """Codes of both signs, of one sign and the largest ones, as large as `fits_float32` allows: int8 [O, C, R, S]."""
    rows, reduction = geometry.w_shape[0], torch.Size(geometry.w_shape[1:]).numel()
    most = FLOAT32_EXACT // 255
    some = min(reduction, most // (2 * 127))
    usual = min(127, most // (2 * reduction))

    def codes(largest: int, columns: int) -> Tensor:
        return torch.randint(
            -largest, largest + 1, (rows, columns), dtype=torch.int8, generator=generator, device="cpu"
        )

    weight = codes(usual, reduction)
    weight[:, :some] = codes(127, some)
    weight[::3, :some], weight[1::3, :some] = 127, -127
    return weight.reshape(geometry.w_shape)


def positions(geometry: Geometry, generator: torch.Generator) -> Tensor:
    """Rows and columns of outputs to look at, int64 [P, 2]: the corners and random ones.

    Args:
        geometry: The geometry.
        generator: Where the random ones come from.
    """
    bottom, right = (n - 1 for n in _window(geometry).output_size(*geometry.x_shape[2:]))
    corners = [[row, column] for row in (0, bottom) for column in (0, right)]
    # A position reads a window of all channels, which takes longer than multiplying it with few kernels.
    channels, (rows, columns) = geometry.x_shape[1], geometry.w_shape[2:]
    each = max(torch.Size(geometry.w_shape).numel(), 8 * channels * rows * columns)
    count = min(max(_CHECKED_PRODUCTS // each, 4), _POSITIONS)
    places = [
        torch.randint(n + 1, (count,), dtype=torch.int64, generator=generator, device="cpu")
        for n in (bottom, right)
    ]
    return torch.cat([torch.tensor(corners, dtype=torch.int64, device="cpu"), torch.stack(places, dim=1)])


def sums_at(image: Tensor, weight: Tensor, at: Tensor, geometry: Geometry) -> Tensor:
    """The definition: float32(sums) [P, O] of some outputs, added in float64, where all of them are exact.

    Args:
        image: int8 [C, H, W].
        weight: int8 [O, C/groups, R, S].
        at: int64 [P, 2], rows and columns of outputs.
        geometry: The geometry.
    """
    rows, columns = (
        at[:, axis, None] * geometry.stride[axis]
        + torch.arange(geometry.w_shape[2 + axis], dtype=torch.int64, device="cpu") * geometry.dilation[axis]
        for axis in range(2)
    )
    windows = image[:, rows[:, :, None], columns[:, None, :]]  # [C, P, R, S]
    windows = windows.movedim(1, 0).reshape(len(at), geometry.groups, -1).double()
    kernels = weight.reshape(geometry.groups, len(weight) // geometry.groups, -1).double()
    sums = windows.transpose(0, 1) @ kernels.mT  # [groups, P, O/groups]
    return sums.transpose(0, 1).reshape(len(at), -1).to(torch.float32)


def _window(geometry: Geometry) -> Window:
    return Window(kernel=geometry.w_shape[2:], stride=geometry.stride, dilation=geometry.dilation)
