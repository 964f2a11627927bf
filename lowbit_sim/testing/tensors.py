"""Tensors that tell a right quantiser from a wrong one, as a Hypothesis strategy."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.quant.qtensor import element_format
from lowbit_sim.testing.grid import float32_steps, grid_of

Shape = tuple[int, ...]

_LARGEST = float(np.finfo(np.float32).max)
_SUBNORMAL = 2.0**-126

#: Magnitudes from here on have normal scales and reciprocals in every format.
_SMALL = 2.0**-60

#: More elements make a test slow and a failure hard to read.
_LARGEST_SIDE = 4
_LONGEST = 12


@dataclass(frozen=True, kw_only=True)
class _Points:
    """The values of a format and points between them, its quarters and ties among them."""

    grid: Sequence[float]
    parts: int
    scale: float | None

    def strategy(self) -> st.SearchStrategy[float]:
        grid, last = self.grid, len(self.grid) - 2
        zero = min(bisect.bisect_left(grid, 0.0), last)

        def point(place: int, fraction: float) -> float:
            low, high = grid[place], grid[place + 1]
            return low + (high - low) * fraction

        # On both sides of zero signs matter most, and float32 sums lose most bits.
        near_zero = st.sampled_from([0, 0, -1, 1, -2, 2, -3, 3]).map(lambda k: min(max(zero + k, 0), last))
        places = st.one_of(near_zero, st.integers(0, last))
        fractions = st.sampled_from([0.5, 0.0, 0.25, 0.75])
        if self.parts > 4:
            # The first and the last part, where the extreme random integers make or miss a carry.
            fractions |= st.sampled_from([1 / self.parts, 1 - 1 / self.parts])
            fractions |= st.integers(0, self.parts - 1).map(lambda j: j / self.parts)
        return st.builds(point, places, fractions)


def shapes(min_dims: int = 1, max_dims: int = 3) -> st.SearchStrategy[Shape]:
    """Shapes, empty ones among them, the shorter the simpler."""
    sides = st.integers(1, 3) | st.integers(0, _LARGEST_SIDE)
    return st.lists(sides, min_size=min_dims, max_size=max(min_dims, max_dims)).map(tuple)


_blocks = shapes()


@st.composite
def tensors(
    draw: Callable,
    format: Format | str | None = None,
    *,
    shapes: st.SearchStrategy[Shape] | None = None,
    infinities: bool = False,
    nan: bool = False,
    strided: bool = False,
    subnormals: bool = True,
    scale: float | None = None,
    parts: int = 4,
) -> Tensor:
    """Float32 tensors of the kinds that quantisers get wrong.

    All elements equal; all zero; empty; one outlier; subnormals; huge and tiny magnitudes; any bit patterns. With a
    format also: its values and ties at a scale that is a power of two, where ties survive scaling exactly, and
    points within two float32 steps of a tie at a scale that is anything, where x / scale, x * (1 / scale) and
    x * qmax / absmax part ways.

    Args:
        draw: Supplied by Hypothesis.
        format: The format that the tensors will be quantised to, or its name.
        shapes: A strategy for shapes; by default of one to three axes, most often one.
        infinities: Whether some elements may be infinite.
        nan: Whether some elements may be NaN.
        strided: Whether some tensors are transposed views.
        subnormals: Whether there are tensors of magnitudes below 2^-60, the subnormals among them, whose scales
            are too small for a reciprocal.
        scale: The scale that the tensors will be divided by, where it is always the same.
        parts: Into how many parts the way from one value of the format to the next is divided; points beside the
            ends of these parts come up often. 2^r shows what r random bits do.

    Raises:
        ValueError: Fewer than 2 parts.
    """
    if parts < 2:
        raise ValueError(f"a tie divides a gap into 2 parts; got parts={parts}")
    grid = grid_of(element_format(as_format(format)) if format is not None else IntFormat(bits=8))
    kinds = _KINDS if subnormals else [kind for kind in _KINDS if kind is not _tiny]
    points = _Points(grid=grid, parts=parts, scale=scale)
    elements, peak = draw(st.sampled_from(kinds))(draw, points)
    specials = [math.inf, -math.inf] * infinities + [math.nan] * nan
    if specials and draw(st.booleans()):
        elements |= st.sampled_from(specials)
    # A list of its own length shrinks best, by leaving elements out.
    if shapes is None and draw(st.integers(0, 3)):
        values = draw(st.lists(elements, max_size=_LONGEST))
        shape: Shape = (len(values),)
    else:
        shape = tuple(draw(_blocks if shapes is None else shapes))
        count = math.prod(shape)
        values = draw(st.lists(elements, min_size=count, max_size=count))
    if peak is not None:
        _put_in_rows(values, shape[-1] if shape else 1, peak)
    if not subnormals:
        values = [v if abs(v) >= _SMALL or v != v else 0.0 for v in values]
    x = torch.tensor(values, dtype=torch.float32).reshape(shape)
    if strided and x.ndim > 1 and draw(st.booleans()):
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    return x


def _float32(x: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.clip(np.float32(x), -_LARGEST, _LARGEST))


_small = st.integers(-64, 64).map(lambda k: k / 4)
_finite = st.floats(-_LARGEST, _LARGEST, width=32)
_subnormals = st.floats(-_SUBNORMAL, _SUBNORMAL, width=32)
#: Normal numbers with any mantissa and a moderate exponent.
_absmaxes = st.builds(
    lambda m, e: _float32((1 + m * 2.0**-23) * 2.0**e), st.integers(0, (1 << 23) - 1), st.integers(-20, 20)
)


#: Elements, and what the largest magnitude of each row must be, if anything.
Kind = tuple[st.SearchStrategy[float], float | None]


def _plain(draw: Callable, points: _Points) -> Kind:
    return _small, None


def _zeros(draw: Callable, points: _Points) -> Kind:
    return st.sampled_from([0.0, -0.0]), None


def _equal(draw: Callable, points: _Points) -> Kind:
    return st.just(draw(st.one_of(_small, _finite, _subnormals))), None


def _outlier(draw: Callable, points: _Points) -> Kind:
    return _small, draw(st.one_of(_absmaxes, _finite))


def _any(draw: Callable, points: _Points) -> Kind:
    return _finite, None


def _tiny(draw: Callable, points: _Points) -> Kind:
    return _subnormals, None


def _on_grid(draw: Callable, points: _Points) -> Kind:
    """Values, ties and quarter points of the format times a power of two, with the largest value in each row.

    The absmax scale of such a row is that power of two.
    """
    scale = points.scale or 2.0 ** draw(st.integers(-8, 8))
    return points.strategy().map(lambda v: _float32(v * scale)), _float32(points.grid[-1] * scale)


def _near_ties(draw: Callable, points: _Points) -> Kind:
    """For an absmax with any mantissa, points that scale to a tie or to within two steps of one."""
    absmax = draw(_absmaxes)
    scale = points.scale or float(np.float32(absmax) / np.float32(points.grid[-1]))
    steps = st.sampled_from([0, 0, -1, 1, -2, 2])
    near = st.builds(lambda v, n: float32_steps(_float32(v * scale), n), points.strategy(), steps)
    return near, None if points.scale else absmax


def _put_in_rows(values: list[float], row: int, peak: float) -> None:
    """Give each row of the last axis a largest magnitude that decides its scale."""
    for start in range(0, len(values), max(row, 1)):
        values[start] = math.copysign(peak, values[start])


#: Ties come up most often: they are where quantisers differ.
_KINDS = (
    _plain,
    _on_grid,
    _near_ties,
    _on_grid,
    _near_ties,
    _near_ties,
    _near_ties,
    _near_ties,
    _equal,
    _zeros,
    _outlier,
    _any,
    _tiny,
)
