"""Hypothesis strategies for MAC units, product tables and code matrices."""

import functools

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lowbit_sim.arith.mac import TRUNCATIONS, MacUnit
from lowbit_sim.arith.products import ProductTable


@functools.cache
def random_table(bits: int, signed: bool, largest: int, seed: int) -> ProductTable:
    """Products that have nothing in common with multiplication, different for (a, b) and (b, a)."""
    table = np.random.default_rng(seed).integers(-largest, largest + 1, (1 << bits, 1 << bits))
    return ProductTable(bits=bits, signed=signed, table=table, name=f"random{seed}")


@functools.cache
def exact_table(bits: int, signed: bool) -> ProductTable:
    patterns = np.arange(1 << bits)
    codes = np.where(patterns >> (bits - 1), patterns - (1 << bits), patterns) if signed else patterns
    return ProductTable(bits=bits, signed=signed, table=codes[:, None] * codes, name="exact")


product_tables = st.one_of(
    st.builds(
        random_table,
        st.integers(1, 5),
        st.booleans(),
        st.sampled_from([0, 3, 300, 2**20, 2**31 - 1]),
        st.integers(0, 3),
    ),
    st.builds(exact_table, st.integers(2, 5), st.booleans()),
)


@st.composite
def mac_units(draw, products=None):
    """MAC units of every kind; `products` is the strategy of their tables, none by default."""
    inner, outer = draw(st.integers(8, 64)), draw(st.none() | st.integers(8, 64))
    overflow_at = draw(st.sampled_from(["addition", "chunk", "outer"]))
    most = 64 - (outer or inner)
    most = most if overflow_at == "outer" else min(most, inner - 1)
    truncated = draw(st.just(0) | st.integers(0, most))
    return MacUnit(
        accumulator_bits=inner,
        overflow=draw(st.sampled_from(["wrap", "saturate", "saturate_symmetric"])),
        chunk=draw(st.sampled_from([0, 1, 2, 3, 5, 7, 16])),
        outer_bits=outer,
        overflow_at=overflow_at,
        truncated_bits=truncated,
        truncation=draw(st.sampled_from(TRUNCATIONS)) if truncated else "down",
        order=draw(st.sampled_from(["sequential", "tree"])),
        products=draw(products) if products is not None else None,
    )


_RANGES = {
    torch.int8: (np.int8, -128, 127),
    torch.uint8: (np.uint8, 0, 255),
    torch.int16: (np.int16, -(2**15), 2**15 - 1),
    torch.int32: (np.int32, -(2**16) + 1, 2**16 - 1),
}


def _matrix(rows: int, columns: int, dtype: type, low: int, high: int, extreme: bool):
    # Extreme codes make narrow accumulators overflow within a few products.
    elements = st.sampled_from([low, high, 0, high - 1]) if extreme else st.integers(low, high)
    return arrays(dtype, (rows, columns), elements=elements).map(torch.from_numpy)


@st.composite
def operands(draw, largest: int = 9):
    """Two code matrices [M, K] and [K, N]."""
    m, k, n = (draw(st.integers(0, largest)) for _ in range(3))
    dtypes = st.sampled_from(list(_RANGES.values()))
    extreme = draw(st.booleans())
    return draw(_matrix(m, k, *draw(dtypes), extreme)), draw(_matrix(k, n, *draw(dtypes), extreme))


@st.composite
def table_gemms(draw, largest: int = 9):
    """Two code matrices within the range of the product table of the MAC unit that comes with them."""
    mac = draw(mac_units(products=product_tables))
    m, k, n = (draw(st.integers(0, largest)) for _ in range(3))
    low, high = mac.products.code_range
    extreme = draw(st.booleans())
    a, b = (_matrix(*shape, np.int16, low, high, extreme) for shape in ((m, k), (k, n)))
    return draw(a), draw(b), mac
