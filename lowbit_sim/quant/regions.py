"""A tensor as the elements that share a scale: extremes of each region, and regions as rows.

The extremes are one pass over the tensor in its own layout; rules that need more (an order statistic, an
error to minimise) take the regions as rows of matrices. Short last groups and blocks are regions like any.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lowbit_sim.numerics import triton_support
from lowbit_sim.quant.granularity import Granularity, PerBlock, PerGroup, axis_of, scale_shape
from lowbit_sim.quant.magnitudes import absmax_on_cpu
from lowbit_sim.quant.not_a_number import NotANumberError


def extremes(x: Tensor, granularity: Granularity) -> tuple[Tensor, Tensor]:
    """The smallest and the largest finite element of each region; 0 where there are none.

    Infinities count as 0, so that a region that holds one has extremes on both sides of 0.

    Args:
        x: float32 of any shape.
        granularity: Which elements share a scale.

    Returns:
        Two tensors of shape `scale_shape(granularity, x.shape)`.

    Raises:
        NotANumberError: x holds NaN.
    """
    if x.numel() and triton_support.uses_triton(x.device):
        high, negated_low = _maxima_on_gpu(x, granularity, magnitudes=False)
        return -negated_low, high
    low, high = _reduce(x, granularity, largest=False), _reduce(x, granularity, largest=True)
    if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
        if bool(torch.isnan(low).any()):
            raise NotANumberError("a tensor whose extremes are asked for holds NaN")
        x = torch.where(torch.isinf(x), torch.zeros((), dtype=x.dtype, device=x.device), x)
        low, high = _reduce(x, granularity, largest=False), _reduce(x, granularity, largest=True)
    return low, high


def absmax(x: Tensor, granularity: Granularity) -> Tensor:
    """The largest finite magnitude of each region: float32 of shape `scale_shape(granularity, x.shape)`.

    Raises:
        NotANumberError: x holds NaN.
    """
    if x.numel() and triton_support.uses_triton(x.device):
        return _maxima_on_gpu(x, granularity, magnitudes=True)[0]
    if x.device.type == "cpu" and x.numel():
        return absmax_on_cpu(x, granularity)
    low, high = extremes(x, granularity)
    return torch.maximum(high, -low)


def _maxima_on_gpu(x: Tensor, granularity: Granularity, *, magnitudes: bool) -> Tensor:
    """`triton_extremes.region_maxima`; the host waits for the largest of them, which says whether there is a NaN."""
    from lowbit_sim.quant.triton_extremes import region_maxima

    maxima = region_maxima(x, granularity, magnitudes=magnitudes)
    if not recording(x) and math.isinf((maxima.amax() if maxima.numel() > 1 else maxima).item()):
        raise NotANumberError("a tensor whose extremes are asked for holds NaN")
    return maxima


def recording(x: Tensor) -> bool:
    """Whether a CUDA graph is being recorded, in which the host can't wait for a flag; a `Quantizer` refuses that."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _reduce(x: Tensor, granularity: Granularity, largest: bool) -> Tensor:
    shape = scale_shape(granularity, tuple(x.shape))
    if x.numel() == 0:
        return torch.zeros(shape, dtype=torch.float32, device=x.device)
    if isinstance(granularity, PerBlock):
        return torch.cat([_along(part, (-1,), largest) for part in _blocks(x, -1, granularity.size)], -1)
    if isinstance(granularity, PerGroup):
        axis = axis_of(granularity, tuple(x.shape))
        assert axis is not None
        others = tuple(i for i in range(x.ndim + 1) if i != axis)
        parts = [_along(part, others, largest) for part in _blocks(x, axis, granularity.size)]
        return _repeat(torch.cat(parts), granularity.size, x.shape[axis]).reshape(shape)
    if math.prod(shape) == 1:
        return (x.amax() if largest else x.amin()).reshape(shape)
    dims = tuple(i for i, n in enumerate(shape) if n != x.shape[i])
    return _along(x, dims, largest).reshape(shape)


def _along(x: Tensor, dims: tuple[int, ...], largest: bool) -> Tensor:
    if not dims:  # amax over no axes would reduce over all of them
        return x
    return x.amax(dims) if largest else x.amin(dims)


def _blocks(x: Tensor, axis: int, size: int) -> list[Tensor]:
    """Views of x with an axis split into [blocks, size]: the whole blocks, then the short last one."""
    length = x.shape[axis]
    whole = length - length % size
    parts = [x.narrow(axis, 0, whole).unflatten(axis, (-1, size))] if whole else []
    if whole < length:
        parts.append(x.narrow(axis, whole, length - whole).unflatten(axis, (1, -1)))
    return parts


def _repeat(values: Tensor, size: int, length: int) -> Tensor:
    return values.repeat_interleave(size)[:length]


def rows(x: Tensor, granularity: Granularity) -> list[Tensor]:
    """The regions as rows of matrices: those of full size, and those of the short last group or block.

    Args:
        x: float32 of any shape.
        granularity: Which elements share a scale.

    Returns:
        At most two matrices [regions, elements]; `spread` puts results for them in their places.
    """
    shape = tuple(x.shape)
    axis = axis_of(granularity, shape)
    if x.numel() == 0:
        return []
    if axis is None:
        return [x.reshape(1, -1)]
    if isinstance(granularity, PerBlock):
        return [part.reshape(-1, part.shape[-1]) for part in _blocks(x, -1, granularity.size)]
    if isinstance(granularity, PerGroup):
        parts = _blocks(x.movedim(axis, 0), 0, granularity.size)
        return [part.reshape(part.shape[0], -1) for part in parts]
    return [x.movedim(axis, 0).reshape(shape[axis], -1)]


def spread(
    values: list[Tensor],
    granularity: Granularity,
    shape: tuple[int, ...],
    empty: float,
    device: torch.device | None = None,
) -> Tensor:
    """Values of the regions, in the order of `rows`, as a tensor of shape `scale_shape(granularity, shape)`.

    Args:
        values: float32 [regions] for each matrix of `rows`.
        granularity: Which elements share a scale.
        shape: Shape of the tensor.
        empty: The value of the regions of a tensor without elements.
        device: Where such a tensor is.
    """
    target = scale_shape(granularity, shape)
    if not values:
        return torch.full(target, empty, dtype=torch.float32, device=device)
    if isinstance(granularity, PerBlock):
        columns = math.prod(shape[:-1])
        return torch.cat([value.reshape(columns, -1) for value in values], dim=1).reshape(target)
    if isinstance(granularity, PerGroup):
        axis = axis_of(granularity, shape)
        assert axis is not None
        return _repeat(torch.cat(values), granularity.size, shape[axis]).reshape(target)
    return torch.cat(values).reshape(target)


def addressing(granularity: Granularity, shape: tuple[int, ...]) -> tuple[int, Tensor]:
    """How a kernel that walks the tensor in row-major order finds each element's scale.

    Element i has the scale `scales.reshape(-1)[index][(i // run) % len(index)]`.

    Args:
        granularity: Which elements share a scale.
        shape: Shape of the tensor.

    Returns:
        run: Elements in a row that share a scale; 0 for one scale in all.
        index: int64, the scales in the order of the runs.
    """
    scales = torch.arange(math.prod(scale_shape(granularity, shape)))
    return run_of(granularity, shape), by_run(scales, granularity, shape)


def run_of(granularity: Granularity, shape: tuple[int, ...]) -> int:
    """Elements in a row that share a scale; 0 for one scale in all.

    A kernel's runs can't be of different lengths, so where the last block of a row is short, a run is a piece whose
    length divides both the row and the block.
    """
    if isinstance(granularity, PerBlock):
        length, block = shape[-1], granularity.size
        return 0 if not math.prod(shape) else math.gcd(length, block) if length > block else length
    axes = [i for i, n in enumerate(scale_shape(granularity, shape)) if n != 1]
    return math.prod(shape[axes[0] + 1 :]) if axes else 0


def by_run(scales: Tensor, granularity: Granularity, shape: tuple[int, ...]) -> Tensor:
    """Scales, or what has their shape, in the order of the runs: those of a block that is cut into runs repeated."""
    flat = scales.reshape(-1)
    run = run_of(granularity, shape)
    if not isinstance(granularity, PerBlock) or not run or run == min(granularity.size, shape[-1]):
        return flat
    pieces = torch.arange(shape[-1] // run, device=flat.device) * run // granularity.size
    blocks = -(-shape[-1] // granularity.size)
    return flat.reshape(-1, blocks)[:, pieces].reshape(-1)
