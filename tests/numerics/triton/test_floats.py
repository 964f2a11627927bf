"""Codes of float formats by the GPU's kernel are those of the CPU's and of the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import ELEMENTS, element_probes, kernel_codes, reference_codes, rounding
from tests.numerics.triton.cases import FAR_STREAM, ODD_STREAM, roundings, thinned, triton_codes

CATALOGUE = [fmt for fmt in ELEMENTS if isinstance(fmt, FloatFormat)]

#: What the catalogue has not: flushed subnormals, other biases, infinity alone, neither, float32's own subnormals.
OTHERS = [
    FloatFormat(exponent_bits=4, mantissa_bits=3, bias=7, has_subnormals=False),
    FloatFormat(exponent_bits=3, mantissa_bits=2, bias=-4, has_nan=False, has_subnormals=False),
    FloatFormat(exponent_bits=5, mantissa_bits=0, bias=149, has_infinity=False),
    FloatFormat(exponent_bits=4, mantissa_bits=4, bias=140, has_infinity=False, has_nan=False),
    FloatFormat(exponent_bits=5, mantissa_bits=2, bias=147, has_subnormals=False),
    FloatFormat(exponent_bits=8, mantissa_bits=22, bias=127),
    FloatFormat(exponent_bits=8, mantissa_bits=7, bias=127, has_subnormals=False),
    FloatFormat(exponent_bits=2, mantissa_bits=21, bias=1),
    FloatFormat(exponent_bits=1, mantissa_bits=3, bias=1, has_infinity=False),
    FloatFormat(exponent_bits=6, mantissa_bits=1, bias=-39, has_infinity=False),
]


@pytest.mark.parametrize("fmt", [*CATALOGUE, *OTHERS], ids=str)
def test_every_format_and_rounding(fmt: FloatFormat) -> None:
    inputs = thinned(element_probes(fmt), 500)
    for how in roundings(fmt):
        expected = reference_codes(inputs, fmt, how, FAR_STREAM)
        np.testing.assert_array_equal(triton_codes(inputs, fmt, how, FAR_STREAM), expected, err_msg=str(how))


@pytest.mark.parametrize("random_bits", [1, 9, 17, 32])
@pytest.mark.parametrize("fmt", [catalog.FP8_E5M2, catalog.BF16], ids=str)
def test_every_width_of_random_bits(fmt: FloatFormat, random_bits: int) -> None:
    inputs = thinned(element_probes(fmt), 700)
    how = rounding("stochastic", random_bits=random_bits)
    expected = kernel_codes(inputs, fmt, how, ODD_STREAM)
    np.testing.assert_array_equal(triton_codes(inputs, fmt, how, ODD_STREAM), expected)


@pytest.mark.parametrize("fmt", [fmt for fmt in CATALOGUE if fmt.has_nan], ids=str)
def test_nan(fmt: FloatFormat) -> None:
    inputs = np.array([np.nan, -np.nan, 1.0], dtype=np.float32)
    expected = reference_codes(inputs, fmt, Rounding())
    np.testing.assert_array_equal(triton_codes(inputs, fmt, Rounding()), expected)


@settings(max_examples=25)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    st.sampled_from([*CATALOGUE, *OTHERS]),
    st.sampled_from(RoundingMode),
    st.integers(1, 32),
)
def test_any_numbers(values: list[float], fmt: FloatFormat, mode: str, bits: int) -> None:
    inputs = np.array(values, dtype=np.float32)
    how = rounding(mode, "saturate", bits)
    expected = reference_codes(inputs, fmt, how, ODD_STREAM)
    np.testing.assert_array_equal(triton_codes(inputs, fmt, how, ODD_STREAM), expected)
