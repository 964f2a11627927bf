"""The kernel for one scale without a zero point returns the bits of the definition and of the general lanes."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lowbit_sim.numerics import whole_lanes
from lowbit_sim.numerics.lanes import CHUNK
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference import integer_code
from lowbit_sim.numerics.rounding import RoundingMode
from tests.numerics.cases import rounding
from tests.numerics.test_lanes import INTEGERS, NUMBERS, integer_codes, lanes_used, many_numbers

SCALES = st.sampled_from([1.0, 2.5, 2.0**-20, 2.0**126, 3.0e-39])


@given(
    x=NUMBERS,
    inv=SCALES,
    fmt=st.sampled_from(INTEGERS),
    mode=st.sampled_from(list(RoundingMode)),
    random_bits=st.integers(1, 8),
    offset=st.integers(0, 40),
)
def test_the_definition(x, inv, fmt, mode, random_bits, offset) -> None:
    how, stream = rounding(mode, random_bits=random_bits), Stream(seed=7, offset=offset)
    scales = np.array([inv], dtype=np.float32)
    with np.errstate(over="ignore"):
        y = x * scales
    randoms = [draw(stream, i, random_bits) if how.is_stochastic else 0 for i in range(x.size)]
    expected = [integer_code(float(v), fmt, how, r, 0) for v, r in zip(y, randoms, strict=True)]
    assert integer_codes(x, scales, 1000, fmt, how, [0], stream).tolist() == expected


@pytest.mark.parametrize("random_bits", [1, 8, 9, 16])
@pytest.mark.parametrize("mode", RoundingMode)
def test_chunks_of_many_numbers_against_two_equal_scales(mode: str, random_bits: int) -> None:
    fmt, how = INTEGERS[1], rounding(mode, random_bits=random_bits)
    x = many_numbers(CHUNK + 3)
    one, two = np.full(1, 2.5, np.float32), np.full(2, 2.5, np.float32)
    assert lanes_used(whole_lanes, lambda: integer_codes(x, one, 37, fmt, how, [0]))
    assert not lanes_used(whole_lanes, lambda: integer_codes(x, two, 37, fmt, how, [0]))
    assert not lanes_used(whole_lanes, lambda: integer_codes(x, one, 37, fmt, how, [1]))
    found = integer_codes(x, one, 37, fmt, how, [0])
    np.testing.assert_array_equal(found, integer_codes(x, two, 37, fmt, how, [0]))


@pytest.mark.parametrize("mode", RoundingMode)
def test_nans_are_counted(mode: str) -> None:
    how = rounding(mode)
    x = np.zeros(3 * CHUNK, dtype=np.float32)
    x[::7] = np.nan
    numbers = (np.float32(1), np.float32(-127), np.float32(127))
    codes, address = np.empty(x.size, dtype=np.int8), (1, 2, 3, 4, 5)
    mode_code = list(RoundingMode).index(RoundingMode(mode))
    found = whole_lanes.quantize(x, np.float32(1), *numbers, mode_code, how.random_bits, 8, address, codes)
    assert found == np.isnan(x).sum()
