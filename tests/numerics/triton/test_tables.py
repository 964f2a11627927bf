"""Codes of logarithmic, posit, codebook and bare-exponent formats by the GPU's kernel are those of the CPU's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat, IntFormat, TableFormat
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import ELEMENTS, element_probes, kernel_codes, reference_codes, rounding
from tests.numerics.triton.cases import FAR_STREAM, ODD_STREAM, roundings, thinned, triton_codes

TABLES = [fmt for fmt in ELEMENTS if not isinstance(fmt, IntFormat | FixedFormat | FloatFormat)]


@pytest.mark.parametrize("fmt", TABLES, ids=str)
def test_every_format_and_rounding(fmt: TableFormat) -> None:
    inputs = thinned(element_probes(fmt), 1200)
    for how in roundings(fmt, random_bits=(8, 32)):
        expected = kernel_codes(inputs, fmt, how, FAR_STREAM)
        np.testing.assert_array_equal(triton_codes(inputs, fmt, how, FAR_STREAM), expected, err_msg=str(how))


@pytest.mark.parametrize("fmt", [catalog.POSIT8, catalog.POSIT16, catalog.E8M0], ids=str)
def test_nan(fmt: TableFormat) -> None:
    inputs = np.array([np.nan, 1.0], dtype=np.float32)
    expected = reference_codes(inputs, fmt, Rounding())
    np.testing.assert_array_equal(triton_codes(inputs, fmt, Rounding()), expected)


@settings(max_examples=25)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    st.sampled_from([fmt for fmt in TABLES if fmt.bits <= 8]),
    st.sampled_from(RoundingMode),
    st.integers(1, 8),
)
def test_any_numbers(values: list[float], fmt: TableFormat, mode: str, bits: int) -> None:
    inputs = np.array(values, dtype=np.float32)
    how = rounding(mode, "saturate", bits)
    expected = reference_codes(inputs, fmt, how, ODD_STREAM)
    np.testing.assert_array_equal(triton_codes(inputs, fmt, how, ODD_STREAM), expected)
