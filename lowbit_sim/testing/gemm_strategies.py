"""Hypothesis strategies for multiply-accumulate units and their operands."""

from __future__ import annotations

import bisect
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import TRUNCATIONS, MacUnit
from lowbit_sim.numerics.catalog import CATALOG, as_format
from lowbit_sim.numerics.formats import FloatFormat, Format
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.quant.qtensor import code_dtype, element_format
from lowbit_sim.testing.gemm_cases import integer_format, seeded_codes, seeded_values
from lowbit_sim.testing.grid import grid_of

_CHUNKS = (0, 1, 2, 3, 7, 16)

#: Elements that Hypothesis draws one by one; larger matrices come from a seed, as its examples are of limited size.
LONGEST_LIST = 512

_seeds = st.integers(0, 1 << 30)


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
def float_mac_units(draw: Callable, *, stochastic: bool = False) -> FloatMacUnit:
    """Floating-point MAC units: accumulators of FP32, BF16, FP16 and narrower, every rounding mode, both overflows,
    chunks with an outer accumulator of another format, rounded products, both orders, compensated summation.

    Args:
        draw: Supplied by Hypothesis.
        stochastic: Whether stochastic rounding, with 1 to 16 random bits, is among them; its units need a `Stream`.
    """
    modes = [m.value for m in RoundingMode if stochastic or m is not RoundingMode.STOCHASTIC]
    mode, overflow = draw(st.sampled_from(modes)), draw(st.sampled_from(["infinity", "saturate"]))
    random_bits = draw(st.integers(1, 16)) if mode == RoundingMode.STOCHASTIC else 0
    order = draw(st.sampled_from(["sequential", "sequential", "tree"]))
    product = draw(st.none() | _accumulators)
    products = st.builds(
        Rounding, st.sampled_from([m for m in modes if m != "stochastic"]), st.just(overflow)
    )
    return FloatMacUnit(
        accumulator=draw(_accumulators),
        rounding=Rounding(mode, overflow, random_bits),
        chunk=draw(st.sampled_from(_CHUNKS)),
        outer=draw(st.none() | _accumulators),
        order=order,
        product=product,
        product_rounding=draw(st.none() | products) if product is not None else None,
        kahan=order == "sequential" and draw(st.integers(0, 3)) == 3,
    )


#: Formats with infinity or NaN, which an overflow may become.
_accumulators = st.sampled_from(
    [f for f in CATALOG.values() if isinstance(f, FloatFormat) and (f.has_infinity or f.has_nan)]
)


@st.composite
def gemm_shapes(
    draw: Callable, *, chunk: int = 0, largest: int = 9, products: int = 1 << 16
) -> tuple[int, int, int]:
    """Sizes (M, N, K) of a GEMM; zero and one are among them.

    Args:
        draw: Supplied by Hypothesis.
        chunk: With a chunk, K is often a multiple of it, or one more or less, where `products` allow.
        largest: The largest M and N, and the largest K unless a chunk asks for more.
        products: The most products M N K.
    """
    largest = min(largest, products)
    sizes = st.integers(1, min(3, largest)) | st.integers(0, largest) if largest else st.just(0)
    reductions = sizes
    if chunk:
        edges = [k for k in (chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 1) if 0 <= k <= products]
        reductions = sizes | st.sampled_from(edges) if edges else sizes
    reduction = draw(reductions)
    rows = min(draw(sizes), products // max(reduction, 1))
    columns = min(draw(sizes), products // max(reduction * rows, 1))
    return rows, columns, reduction


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
    fmt = integer_format(format)
    count = shape[0] * shape[1]
    extreme = draw(st.booleans())
    if count > LONGEST_LIST:
        array = seeded_codes(fmt, shape, draw(_seeds), extreme)
        return torch.from_numpy(array).to(code_dtype(fmt))
    elements = extreme_codes(fmt) if extreme else codes(fmt)
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
    count = shape[0] * shape[1]
    if count > LONGEST_LIST:
        return torch.from_numpy(seeded_values(format, shape, draw(_seeds)))
    drawn = draw(st.lists(values(format), min_size=count, max_size=count))
    return torch.tensor(drawn, dtype=torch.float32).reshape(shape)


def values(format: Format | str) -> st.SearchStrategy[float]:
    """The finite values of a format, the largest and the smallest most often."""
    grid = grid_of(element_format(as_format(format)))
    zero = min(bisect.bisect_left(grid, 0.0), len(grid) - 2)
    places = st.one_of(st.sampled_from([zero, zero + 1, len(grid) - 1, 0]), st.integers(0, len(grid) - 1))
    return places.map(grid.__getitem__)


def codes(format: Format | str) -> st.SearchStrategy[int]:
    """The codes of an integer format."""
    fmt = integer_format(format)
    return st.integers(fmt.qmin, fmt.qmax)


def extreme_codes(format: Format | str) -> st.SearchStrategy[int]:
    """Its smallest and largest codes, zero and one."""
    fmt = integer_format(format)
    return st.sampled_from(sorted({0, 1, fmt.qmin, fmt.qmax, fmt.qmax - 1}, key=abs))
