"""Integer and fixed-point codes of the GPU's kernels are those of the CPU's and of the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import FixedFormat, IntFormat
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import ELEMENTS, element_probes, kernel_codes, overflows, reference_codes, rounding
from tests.numerics.triton.cases import FAR_STREAM, ODD_STREAM, roundings, thinned, triton_codes

INTEGERS = [fmt for fmt in ELEMENTS if isinstance(fmt, IntFormat | FixedFormat)]
SOME = [
    catalog.INT2,
    catalog.INT8,
    catalog.UINT8,
    IntFormat(bits=16, symmetric=False),
    FixedFormat(word_length=8, fraction_length=6),
    FixedFormat(word_length=4, fraction_length=149, symmetric=True),
    FixedFormat(word_length=16, fraction_length=-112),
]


@pytest.mark.parametrize("fmt", INTEGERS, ids=str)
def test_every_format(fmt: IntFormat | FixedFormat) -> None:
    inputs = thinned(element_probes(fmt), 1500)
    for how in (rounding("nearest_even"), rounding("stochastic", overflows(fmt)[-1])):
        expected = kernel_codes(inputs, fmt, how, FAR_STREAM)
        np.testing.assert_array_equal(triton_codes(inputs, fmt, how, FAR_STREAM), expected)


@pytest.mark.parametrize("fmt", SOME, ids=str)
def test_every_rounding(fmt: IntFormat | FixedFormat) -> None:
    inputs = thinned(element_probes(fmt), 900)
    for how in roundings(fmt, random_bits=(1, 8, 9, 32)):
        expected = kernel_codes(inputs, fmt, how, FAR_STREAM)
        np.testing.assert_array_equal(triton_codes(inputs, fmt, how, FAR_STREAM), expected, err_msg=str(how))


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize(("zero_point", "overflow"), [(255, "wrap"), (7, "saturate"), (255, "saturate")])
def test_zero_points(mode: str, zero_point: int, overflow: str) -> None:
    inputs = thinned(element_probes(catalog.UINT8), 700)
    how = rounding(mode, overflow)
    expected = kernel_codes(inputs, catalog.UINT8, how, ODD_STREAM, zero_point)
    found = triton_codes(inputs, catalog.UINT8, how, ODD_STREAM, zero_points=np.array([zero_point]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", RoundingMode)
def test_wrapping_far_beyond_the_range_keeps_all_16_bits(mode: str) -> None:
    fmt = IntFormat(bits=16, symmetric=False)
    start = np.float32(2.0) ** np.arange(15, 50, dtype=np.float32)
    inputs = (start[:, None] * (1 + np.arange(20, dtype=np.float32) / 2**14)).reshape(-1)
    inputs = np.concatenate([inputs, -inputs])
    how = rounding(mode, "wrap")
    expected = reference_codes(inputs, fmt, how, ODD_STREAM)
    np.testing.assert_array_equal(triton_codes(inputs, fmt, how, ODD_STREAM), expected)


@settings(max_examples=25)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    st.sampled_from(SOME),
    st.sampled_from(RoundingMode),
    st.integers(1, 32),
)
def test_any_numbers(values: list[float], fmt: IntFormat | FixedFormat, mode: str, bits: int) -> None:
    inputs = np.array(values, dtype=np.float32)
    how = rounding(mode, "saturate", bits)
    expected = reference_codes(inputs, fmt, how, ODD_STREAM)
    np.testing.assert_array_equal(triton_codes(inputs, fmt, how, ODD_STREAM), expected)


def test_the_product_is_rounded_to_float32_once_and_is_no_quotient() -> None:
    inputs = np.float32(7) * np.arange(-120, 121, dtype=np.float32) + np.float32(3.5)
    inv = np.array([1 / np.float32(7)], dtype=np.float32)
    expected = np.rint(inputs * inv)
    assert (expected != np.rint(inputs / np.float32(7))).any()
    np.testing.assert_array_equal(triton_codes(inputs, catalog.INT8, Rounding(), inv=inv), expected)
