"""Regions and quantised values element by element, the slow way."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from lowbit_sim.numerics.formats import ElementFormat
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference import encode_value, float32
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import (
    Granularity,
    PerAxis,
    PerBlock,
    PerGroup,
    PerSample,
    PerTensor,
    scale_shape,
)

#: Shapes and granularities with whole and with short last groups and blocks.
GRANULARITIES: list[tuple[Granularity, tuple[int, ...]]] = [
    (PerTensor(), (3, 4)),
    (PerTensor(), ()),
    (PerAxis(0), (3, 4)),
    (PerAxis(1), (2, 3, 4)),
    (PerAxis(-1), (3, 4)),
    (PerSample(), (3, 2, 2)),
    (PerGroup(2, 0), (5, 3)),
    (PerGroup(3, 1), (2, 6, 2)),
    (PerGroup(2, -1), (3, 5)),
    (PerGroup(9, 0), (4, 2)),
    (PerBlock(4), (3, 8)),
    (PerBlock(4), (3, 10)),
    (PerBlock(4), (3, 7)),
    (PerBlock(6), (2, 3, 4)),
    (PerBlock(5), (12,)),
    (PerBlock(1), (2, 3)),
]


def scale_index(granularity: Granularity, index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where an element's scale is in the tensor of scales."""
    if isinstance(granularity, PerBlock):
        return (*index[:-1], index[-1] // granularity.size)
    return tuple(0 if n == 1 else i for i, n in zip(index, scale_shape(granularity, shape), strict=True))


def region(granularity: Granularity, index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """A name for the region of an element: the same for elements that share a scale, else different."""
    if isinstance(granularity, PerTensor):
        return ()
    if isinstance(granularity, PerBlock):
        return scale_index(granularity, index, shape)
    axis = granularity.axis % len(shape)
    return (index[axis] // granularity.size,) if isinstance(granularity, PerGroup) else (index[axis],)


def regions_of(
    granularity: Granularity, shape: tuple[int, ...]
) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """The indices of each region's elements."""
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for index in indices(shape):
        found.setdefault(region(granularity, index, shape), []).append(index)
    return found


def indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The indices of a tensor in row-major order."""
    return itertools.product(*map(range, shape))


def codes_one_by_one(
    x: torch.Tensor,
    scale: torch.Tensor,
    granularity: Granularity,
    fmt: ElementFormat,
    how: Rounding,
    stream: Stream | None = None,
    zero_point: torch.Tensor | None = None,
) -> list[int]:
    """The codes by the definition, in row-major order; element i draws the i-th random integer."""
    codes = []
    for i, index in enumerate(indices(tuple(x.shape))):
        at = scale_index(granularity, index, tuple(x.shape))
        inv = float32(1.0 / scale[at].item())
        random = draw(stream, i, how.random_bits) if how.is_stochastic and stream is not None else 0
        offset = 0 if zero_point is None else int(zero_point[at])
        codes.append(encode_value(float32(x[index].item() * inv), fmt, how, random, offset))
    return codes


def normal(shape: tuple[int, ...], seed: int = 0, spread: float = 0.0) -> torch.Tensor:
    """Normally distributed float32 values; with a spread, of magnitudes that far (in powers of e) apart."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
