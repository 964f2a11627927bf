"""Hypothesis strategies for multiply-accumulate units and their operands."""

from __future__ import annotations

import bisect
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.arith.mac import TRUNCATIONS, MacUnit
from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.quant.qtensor import code_dtype, element_format
from lowbit_sim.testing.grid import grid_of

_CHUNKS = (0, 1, 2, 3, 7, 16)


@st.composite
def mac_units(draw: Callable, *, narrowest: int = 8, widest: int = 64) -> MacUnit:
    """Integer MAC units: every overflow rule and place, chunks, outer widths, truncation, both orders.

    Args:
        draw: Supplied by Hypothesis.
        narrowest: Bits of the narrowest accumulator, at least 8.
        widest: Bits of the widest accumulator, at most 64.
    """
    bits = st.integers(narrowest, widest)
    accumulator_bits = draw(bits)
    outer_bits = draw(st.none() | bits)
    room = min(64 - (outer_bits or accumulator_bits), accumulator_bits - 1)
    truncated_bits = draw(st.integers(0, min(room, 12)) | st.just(0)) if room > 0 else 0
    return MacUnit(
        accumulator_bits=accumulator_bits,
        overflow=draw(st.sampled_from(["wrap", "saturate", "saturate_symmetric"])),
        chunk=draw(st.sampled_from(_CHUNKS)),
        outer_bits=outer_bits,
        overflow_at=draw(st.sampled_from(["addition", "addition", "chunk", "outer"])),
        truncated_bits=truncated_bits,
        truncation=draw(st.sampled_from(TRUNCATIONS)) if truncated_bits else "down",
        order=draw(st.sampled_from(["sequential", "sequential", "tree"])),
    )


@st.composite
def gemm_shapes(draw: Callable, *, chunk: int = 0, largest: int = 9) -> tuple[int, int, int]:
    """Sizes (M, N, K) of a GEMM; zero and one are among them.

    Args:
        draw: Supplied by Hypothesis.
        chunk: With a chunk, K is often a multiple of it, or one more or less.
        largest: The largest M and N, and the largest K unless a chunk asks for more.
    """
    sizes = st.integers(1, 3) | st.integers(0, largest)
    reductions = sizes
    if chunk:
        edges = [k for k in (chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 1) if k >= 0]
        reductions = sizes | st.sampled_from(edges)
    return draw(sizes), draw(sizes), draw(reductions)


@st.composite
def code_matrices(draw: Callable, format: Format | str, shape: tuple[int, int]) -> Tensor:
    """Matrices of integer codes, of the dtype that a `QTensor` keeps them in.

    Some hold only the extremes, with which narrow accumulators overflow within a few products.

    Args:
        draw: Supplied by Hypothesis.
        format: An integer format or its name.
        shape: Rows and columns.

    Raises:
        TypeError: Not an integer format.
    """
    fmt = _integer_format(format)
    count = shape[0] * shape[1]
    elements = extreme_codes(fmt) if draw(st.booleans()) else codes(fmt)
    values = draw(st.lists(elements, min_size=count, max_size=count))
    return torch.tensor(values, dtype=code_dtype(fmt)).reshape(shape)


@st.composite
def value_matrices(draw: Callable, format: Format | str, shape: tuple[int, int]) -> Tensor:
    """Float32 matrices of finite values of a format, the largest and the smallest often among them.

    Args:
        draw: Supplied by Hypothesis.
        format: An element format or its name.
        shape: Rows and columns.
    """
    grid = grid_of(element_format(as_format(format)))
    zero = min(bisect.bisect_left(grid, 0.0), len(grid) - 2)
    places = st.one_of(st.sampled_from([zero, zero + 1, len(grid) - 1, 0]), st.integers(0, len(grid) - 1))
    count = shape[0] * shape[1]
    values = draw(st.lists(places.map(grid.__getitem__), min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def codes(format: Format | str) -> st.SearchStrategy[int]:
    """The codes of an integer format."""
    fmt = _integer_format(format)
    return st.integers(fmt.qmin, fmt.qmax)


def extreme_codes(format: Format | str) -> st.SearchStrategy[int]:
    """Its smallest and largest codes, zero and one."""
    fmt = _integer_format(format)
    return st.sampled_from(sorted({0, 1, fmt.qmin, fmt.qmax, fmt.qmax - 1}, key=abs))


def _integer_format(format: Format | str) -> IntFormat:
    fmt = as_format(format)
    if not isinstance(fmt, IntFormat):
        raise TypeError(f"integer codes are of an integer format, got {fmt}")
    return fmt
