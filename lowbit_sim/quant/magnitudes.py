"""The largest finite magnitude of each region of a tensor on the CPU: one pass, which meets the NaNs as well."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.quant.granularity import Granularity, PerBlock, PerGroup, axis_of, scale_shape
from lowbit_sim.quant.not_a_number import NotANumberError

#: Elements behind one index of an axis from which they are a row of their own to the kernel.
_SHORT = 16


def absmax_on_cpu(x: Tensor, granularity: Granularity) -> Tensor:
    """float32 of shape `scale_shape(granularity, x.shape)`; infinities count as 0.

    Args:
        x: float32 of any shape, with elements.
        granularity: Which elements share a scale.

    Raises:
        NotANumberError: x holds NaN.
    """
    from lowbit_sim.numerics.absmax_kernel import INFINITY_BITS

    x = x.detach().contiguous()
    largest = _of_regions(x, granularity)
    top = int(largest.max()) if largest.size > 1 else int(largest[0])
    if top > INFINITY_BITS:
        raise NotANumberError("a tensor whose largest magnitude is asked for holds NaN")
    if top == INFINITY_BITS:
        largest = _of_regions(torch.where(torch.isinf(x), 0.0, x), granularity)
    return torch.from_numpy(largest.view(np.float32)).reshape(scale_shape(granularity, tuple(x.shape)))


def _of_regions(x: Tensor, granularity: Granularity) -> np.ndarray:
    """Bits of the magnitudes, int32 [scales]."""
    from lowbit_sim.numerics.absmax_kernel import PIECE, row_maxima

    shape = tuple(x.shape)
    axis = axis_of(granularity, shape)
    bits = x.reshape(-1).numpy().view(np.int32)
    if axis is None:
        return row_maxima(bits, PIECE, PIECE).max(keepdims=True).reshape(1)
    if isinstance(granularity, PerBlock):
        length, size = shape[-1], min(granularity.size, shape[-1])
        return row_maxima(bits, size if length % size == 0 else length, size).reshape(-1)
    largest = _along(bits, shape[axis], math.prod(shape[axis + 1 :]))
    return _of_groups(largest, granularity.size) if isinstance(granularity, PerGroup) else largest


def _along(bits: np.ndarray, count: int, inner: int) -> np.ndarray:
    """Of each of `count` indices of an axis, with `inner` elements behind each."""
    from lowbit_sim.numerics.absmax_kernel import PIECE, column_maxima, row_maxima

    if inner < _SHORT:
        return column_maxima(bits, count * inner).reshape(count, inner).max(1)
    return row_maxima(bits, inner, min(inner, PIECE)).max(1).reshape(-1, count).max(0)


def _of_groups(largest: np.ndarray, size: int) -> np.ndarray:
    """Of each group of `size` entries, repeated for each of them."""
    groups = np.maximum.reduceat(largest, np.arange(0, largest.size, size))
    return groups.repeat(size)[: largest.size]
