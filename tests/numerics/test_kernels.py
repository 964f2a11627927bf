"""The kernels of integers and floats return the definition's bits; `contract/test_formats.py` has the grid."""

import inspect

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog, kernels
from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import float_value
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding, RoundingMode
from tests.numerics.cases import (
    FLOATS,
    SMALL_FLOATS,
    kernel_codes,
    overflows,
    probes,
    reference_codes,
    rounding,
    stream_draws,
)

STREAM = Stream(seed=3, step=1, site=4, operand=1, offset=5)


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", [catalog.FP16, catalog.BF16, catalog.TF32], ids=str)
def test_wide_floats_near_both_ends(fmt: FloatFormat, mode: str) -> None:
    ends = [*range(40), *range(fmt.max_code - 20, fmt.max_code + 1), *range(1 << fmt.mantissa_bits, 1100)]
    values = np.array([float_value(code, fmt) for code in ends], dtype=np.float32)
    with np.errstate(over="ignore"):
        inputs = np.concatenate(
            [values, values * np.float32(1.0003), values * np.float32(0.50001), 2 * values]
        )
    inputs = np.concatenate([inputs, -inputs])
    for overflow in overflows(fmt):
        how = rounding(mode, overflow, random_bits=13)
        expected = reference_codes(inputs, fmt, how, STREAM)
        np.testing.assert_array_equal(kernel_codes(inputs, fmt, how, STREAM), expected)


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize(
    ("zero_point", "overflow"), [(0, "wrap"), (255, "wrap"), (0, "saturate"), (7, "saturate")]
)
def test_zero_points(mode: str, zero_point: int, overflow: str) -> None:
    inputs = probes(catalog.UINT8)[::7]
    how = rounding(mode, overflow)
    expected = reference_codes(inputs, catalog.UINT8, how, STREAM, zero_point)
    np.testing.assert_array_equal(kernel_codes(inputs, catalog.UINT8, how, STREAM, zero_point), expected)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_codes_never_leave_the_range(bits: int) -> None:
    # A rule such as ceil(log2(max)) lets 2^(bits-1) through, which wraps to the most negative code.
    fmt = IntFormat(bits=bits)
    top = float(1 << (bits - 1))
    inputs = np.array([top - 1, top - 0.5, top, top + 0.5, 2 * top, 2.0**31, 2.0**63, 3e38], dtype=np.float32)
    for mode in RoundingMode:
        codes = kernel_codes(np.concatenate([inputs, -inputs]), fmt, rounding(mode), STREAM)
        assert (codes == np.repeat([fmt.qmax, fmt.qmin], len(inputs))).all()


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("signed", [True, False])
def test_wrapping_far_beyond_the_range_keeps_all_16_bits(mode: str, signed: bool) -> None:
    # Where the kernel takes a remainder first; narrower codes would not notice one that is too small.
    fmt = IntFormat(bits=16, signed=signed, symmetric=False)
    start = np.float32(2.0) ** np.arange(19, 26, dtype=np.float32)
    inputs = (start[:, None] + np.arange(0, 140_000, 997, dtype=np.float32) * np.float32(1.125)).reshape(-1)
    inputs = np.concatenate([inputs, -inputs])
    how = rounding(mode, "wrap")
    np.testing.assert_array_equal(
        kernel_codes(inputs, fmt, how, STREAM), reference_codes(inputs, fmt, how, STREAM)
    )


@pytest.mark.parametrize("random_bits", [1, 5, 8, 9, 16, 17, 32])
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN], ids=str)
def test_every_width_of_random_bits(fmt: Format, random_bits: int) -> None:
    inputs = probes(fmt)[::9]
    how = Rounding("stochastic", random_bits=random_bits)
    expected = reference_codes(inputs, fmt, how, STREAM)
    np.testing.assert_array_equal(kernel_codes(inputs, fmt, how, STREAM), expected)


@pytest.mark.parametrize("y", [0.3, -0.3, 2.5, -2.5, 1e-40, -1e-40, 0.99999994, -126.75, 0.0, -0.0])
def test_stochastic_kernel_rounds_up_exactly_from_its_threshold(y: float) -> None:
    # Each of the 256 random integers occurs among 8192 draws, so this covers the whole table.
    random_bits, count, stream = 8, 8192, Stream(seed=9)
    draws = stream_draws(stream, count, random_bits)
    assert len(np.unique(draws)) == 256
    how = Rounding("stochastic", random_bits=random_bits)
    codes = kernel_codes(np.full(count, y, dtype=np.float32), catalog.INT8, how, stream)
    exact = float(np.float32(y))
    floor = int(np.floor(exact))
    # Not (exact - floor) * 256: in float64 that difference is inexact for the tiny ones.
    kept = int(np.floor(exact * 256)) - floor * 256
    np.testing.assert_array_equal(codes, floor + (draws >= 256 - kept))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("fmt", SMALL_FLOATS, ids=str)
def test_stochastic_float_kernel_grows_exactly_from_its_threshold(fmt: FloatFormat, sign: int) -> None:
    random_bits, count, stream = 8, 8192, Stream(seed=9)
    draws = stream_draws(stream, count, random_bits)
    how = Rounding("stochastic", random_bits=random_bits)
    for low in (0, 1, fmt.max_code // 2, fmt.max_code - 1):
        below, above = float_value(low, fmt), float_value(low + 1, fmt)
        x = sign * (below + (above - below) * 77.5 / 256)
        codes = kernel_codes(np.full(count, x, dtype=np.float32), fmt, how, stream)
        expected = low + (draws >= 256 - 77) + (0 if sign > 0 else 1 << (fmt.bits - 1))
        np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_nan_and_infinity(fmt: FloatFormat) -> None:
    inputs = np.array([np.inf, -np.inf], dtype=np.float32)
    for overflow in overflows(fmt):
        how = rounding("nearest_even", overflow)
        assert kernel_codes(inputs, fmt, how).tolist() == reference_codes(inputs, fmt, how).tolist()
    if fmt.has_nan:
        assert kernel_codes(np.array([np.nan], dtype=np.float32), fmt, Rounding()).tolist() == [fmt.nan_code]


def test_product_with_the_reciprocal_is_rounded_to_float32_once() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4000).astype(np.float32)
    inv = np.array(
        [np.float32(1) / np.float32(0.0123), np.float32(1) / np.float32(0.00077)], dtype=np.float32
    )
    codes = np.empty(x.size, dtype=np.int64)
    kernels.quantize_to_integers(x, inv, np.zeros(2, np.int64), 5, catalog.INT16, Rounding(), None, codes)
    channel = np.arange(x.size) // 5 % 2
    np.testing.assert_array_equal(codes, reference_codes(x * inv[channel], catalog.INT16, Rounding()))


def test_multiplying_by_the_reciprocal_is_not_dividing() -> None:
    # (7 k + 3.5) / 7 is a tie, and stays one in float32; times fp32(1 / 7) it often is none.
    scale = np.float32(7)
    inv = np.array([1 / scale], dtype=np.float32)
    x = scale * np.arange(-120, 121, dtype=np.float32) + np.float32(3.5)
    assert (np.rint(x * inv) != np.rint(x / scale)).any()
    codes = np.empty(x.size, dtype=np.int64)
    kernels.quantize_to_integers(x, inv, np.zeros(1, np.int64), x.size, catalog.INT8, Rounding(), None, codes)
    np.testing.assert_array_equal(codes, np.rint(x * inv).astype(np.int64))


@pytest.mark.parametrize("inner", [1, 3, 16, 17, 1000, 5000])
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E5M2], ids=str)
def test_bits_do_not_depend_on_the_length_of_a_row(fmt: Format, inner: int) -> None:
    x = np.linspace(-100, 100, 3001, dtype=np.float32)
    how = Rounding("stochastic", random_bits=8)
    codes, inv = np.empty(x.size, dtype=np.int64), np.ones(1, dtype=np.float32)
    if isinstance(fmt, IntFormat):
        kernels.quantize_to_integers(x, inv, np.zeros(1, np.int64), inner, fmt, how, STREAM, codes)
    else:
        kernels.quantize_to_floats(x, inv, inner, fmt, how, STREAM, codes)
    np.testing.assert_array_equal(codes, kernel_codes(x, fmt, how, STREAM))


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("mode", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN], ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(fmt: Format, mode: str) -> None:
    x = np.random.default_rng(1).standard_normal(5 * kernels.ROW_ELEMENTS + 77).astype(np.float32) * 40
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(kernel_codes(x, fmt, rounding(mode), STREAM))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("build", [kernels._integer_kernel, kernels._float_kernel])
@pytest.mark.parametrize("mode", RoundingMode)
def test_kernels_close_over_plain_values_only(build, mode: str) -> None:
    # numba's cache on disk finds a closure by its cells; a compiled function in one differs in each process.
    arguments = (MODE_CODES[mode], False) if build is kernels._integer_kernel else (MODE_CODES[mode],)
    cells = inspect.getclosurevars(build(*arguments).py_func).nonlocals
    assert all(type(value) in (bool, int, float, np.float64) for value in cells.values()), cells
