"""Hypothesis strategies for MAC units and code matrices."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lowbit_sim.arith.mac import MacUnit

mac_units = st.builds(
    MacUnit,
    accumulator_bits=st.integers(8, 64),
    overflow=st.sampled_from(["wrap", "saturate"]),
    chunk=st.sampled_from([0, 1, 2, 3, 7, 16]),
    outer_bits=st.none() | st.integers(8, 64),
)

_RANGES = {
    torch.int8: (np.int8, -128, 127),
    torch.uint8: (np.uint8, 0, 255),
    torch.int16: (np.int16, -(2**15), 2**15 - 1),
    torch.int32: (np.int32, -(2**16) + 1, 2**16 - 1),
}


def _matrix(rows: int, columns: int, dtype: torch.dtype, extreme: bool):
    numpy_dtype, low, high = _RANGES[dtype]
    # Extreme codes make narrow accumulators overflow within a few products.
    elements = st.sampled_from([low, high, 0, high - 1]) if extreme else st.integers(low, high)
    return arrays(numpy_dtype, (rows, columns), elements=elements).map(torch.from_numpy)


@st.composite
def operands(draw, largest: int = 9):
    """Two code matrices [M, K] and [K, N]."""
    m, k, n = (draw(st.integers(0, largest)) for _ in range(3))
    dtypes = st.sampled_from(list(_RANGES))
    extreme = draw(st.booleans())
    return draw(_matrix(m, k, draw(dtypes), extreme)), draw(_matrix(k, n, draw(dtypes), extreme))
