"""The kernels of 32-bit lanes return the bits of the definition and, for many numbers, of the general kernels."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from lowbit_sim.numerics import (
    catalog,
    float_lanes,
    integer_lanes,
    kernels,
    table_kernel,
    table_lanes,
    whole_lanes,
)
from lowbit_sim.numerics.formats import (
    CodebookFormat,
    FixedFormat,
    FloatFormat,
    IntFormat,
    LogFormat,
    PositFormat,
)
from lowbit_sim.numerics.lanes import CHUNK
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference import float_code, integer_code
from lowbit_sim.numerics.reference_tables import table_code
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import NF4, element_probes, overflows, rounding

STREAM = Stream(seed=3, step=1, site=4, operand=1, offset=5)

INTEGERS = [
    catalog.INT4,
    catalog.INT8,
    catalog.UINT8,
    IntFormat(bits=16, symmetric=False),
    FixedFormat(word_length=8, fraction_length=6),
    FixedFormat(word_length=5, fraction_length=127),
]

FLOATS = [
    catalog.FP8_E4M3FN,
    catalog.FP8_E5M2,
    catalog.FP4_E2M1,
    catalog.FP16,
    catalog.BF16,
    FloatFormat(exponent_bits=3, mantissa_bits=2, bias=3, has_subnormals=False),
    FloatFormat(exponent_bits=4, mantissa_bits=0, bias=7, has_nan=False, has_infinity=False),
    FloatFormat(exponent_bits=8, mantissa_bits=7, bias=127, has_subnormals=False),
]

POSIT = PositFormat(bits=8, exponent_bits=2)

#: Few values and many, with and without zero, with a zero of each sign.
TABLES = [
    LogFormat(exponent_bits=3, radix=2),
    LogFormat(exponent_bits=5, radix=4, odd=True),
    NF4,
    CodebookFormat(values=(-3.0, -1.0, 2.0)),
    CodebookFormat(values=(-1.0, 1.0)),
    POSIT,
    PositFormat(bits=6, exponent_bits=3),
]

#: Zeros, subnormals, the smallest normal number, ties, ones, the largest number, infinity, and their neighbours.
SPECIAL = [
    0,
    1,
    0x7FFFFF,
    0x800000,
    0x3EFFFFFF,
    0x3F000000,
    0x3F800000,
    0x3FC00000,
    0x42FE0000,
    0x42FF0000,
    0x7F7FFFFF,
    0x7F800000,
]

BITS = st.one_of(st.sampled_from(SPECIAL), st.integers(0, 0x7F800000)).flatmap(
    lambda bits: st.sampled_from([bits, bits | 1 << 31])
)
NUMBERS = st.lists(BITS, max_size=40).map(lambda bits: np.array(bits, dtype=np.uint32).view(np.float32))


def many_numbers(size: int) -> np.ndarray:
    """Float32 numbers of every exponent, of everyday size, ties, and the special ones."""
    rng = np.random.default_rng(size)
    anything = rng.integers(0, 1 << 32, size, dtype=np.uint64).astype(np.uint32)
    special = np.array(SPECIAL, dtype=np.uint32)
    wild = np.concatenate([special, special | 1 << 31, anything]).view(np.float32)
    everyday = rng.standard_normal(size).astype(np.float32) * np.float32(50)
    ties = np.round(everyday * 4) / np.float32(4)
    return np.concatenate([np.where(np.isnan(wild), np.float32(1), wild), everyday, ties])


def lanes_used(module, run) -> bool:
    """Whether a call took a module's lanes."""
    used = []
    original = module.quantize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "quantize", lambda *args: used.append(True) or original(*args))
        run()
    return bool(used)


def integer_codes(x, inv, run, fmt, how, zero_points, stream=STREAM) -> np.ndarray:
    codes = np.empty(x.size, dtype=np.int16)
    zeros = np.array(zero_points, dtype=np.int64)
    kernels.quantize_to_integers(x, inv, zeros, run, fmt, how, stream, codes)
    return codes


def float_codes(x, inv, run, fmt, how, stream=STREAM) -> np.ndarray:
    codes = np.empty(x.size, dtype=np.int32)
    kernels.quantize_to_floats(x, inv, run, fmt, how, stream, codes)
    return codes


@given(
    x=NUMBERS,
    fmt=st.sampled_from(INTEGERS),
    mode=st.sampled_from(list(RoundingMode)),
    random_bits=st.integers(1, 8),
    zero_point=st.integers(-128, 255),
    offset=st.integers(0, 40),
)
def test_integers_are_the_definition(x, fmt, mode, random_bits, zero_point, offset) -> None:
    how, stream = rounding(mode, random_bits=random_bits), Stream(seed=7, offset=offset)
    inv = np.array([1.0, 2.5, 2.0**-20], dtype=np.float32)
    zeros = [zero_point, 0, 1]
    with np.errstate(over="ignore"):
        y = x * inv[np.arange(x.size) // 2 % 3]
    randoms = [draw(stream, i, random_bits) if how.is_stochastic else 0 for i in range(x.size)]
    expected = [
        integer_code(float(v), fmt, how, r, zeros[i // 2 % 3])
        for i, (v, r) in enumerate(zip(y, randoms, strict=True))
    ]
    assert integer_codes(x, inv, 2, fmt, how, zeros, stream).tolist() == expected


@given(
    x=NUMBERS,
    fmt=st.sampled_from(FLOATS),
    mode=st.sampled_from(list(RoundingMode)),
    random_bits=st.integers(1, 12),
    offset=st.integers(0, 40),
    data=st.data(),
)
def test_floats_are_the_definition(x, fmt, mode, random_bits, offset, data) -> None:
    overflow = data.draw(st.sampled_from(overflows(fmt)))
    how, stream = rounding(mode, overflow, random_bits), Stream(seed=7, offset=offset)
    randoms = [draw(stream, i, random_bits) if how.is_stochastic else 0 for i in range(x.size)]
    expected = [float_code(float(v), fmt, how, r) for v, r in zip(x, randoms, strict=True)]
    one = np.ones(1, dtype=np.float32)
    assert float_codes(x, one, 1, fmt, how, stream).tolist() == expected


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", INTEGERS, ids=str)
def test_integers_of_many_numbers(monkeypatch, fmt, mode: str) -> None:
    x, inv = many_numbers(CHUNK + 3), np.array([1.0, 2.5, 2.0**-20], dtype=np.float32)
    how = rounding(mode)
    fast = integer_codes(x, inv, 37, fmt, how, [3, 0, -2])
    monkeypatch.setattr(integer_lanes, "fits", lambda *args: False)
    np.testing.assert_array_equal(fast, integer_codes(x, inv, 37, fmt, how, [3, 0, -2]))


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_floats_of_many_numbers(monkeypatch, fmt: FloatFormat, mode: str) -> None:
    x, inv = many_numbers(CHUNK + 3), np.array([1.0, 2.5, 2.0**-20], dtype=np.float32)
    for overflow in overflows(fmt):
        how = rounding(mode, overflow)
        fast = float_codes(x, inv, 37, fmt, how)
        with monkeypatch.context() as patch:
            patch.setattr(float_lanes, "fits", lambda *args: False)
            np.testing.assert_array_equal(fast, float_codes(x, inv, 37, fmt, how))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
@pytest.mark.parametrize("run", [1, 5, 16, 48, 1000])
def test_every_element_meets_its_scale(size: int, run: int) -> None:
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32) * np.float32(30)
    inv = np.linspace(0.5, 2.0, 7, dtype=np.float32)
    expected = np.clip(np.rint(x * inv[np.arange(size) // run % 7]), -127, 127).astype(np.int64)
    codes = integer_codes(x, inv, run, catalog.INT8, Rounding(), [0])
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize(
    ("fmt", "how", "zero_point", "expected"),
    [
        (catalog.INT8, Rounding("stochastic", random_bits=16), 0, True),
        (catalog.INT8, Rounding("stochastic", random_bits=17), 0, False),
        (IntFormat(bits=16), Rounding("stochastic", random_bits=10), 0, False),
        (catalog.UINT8, Rounding("stochastic", random_bits=16), 1, False),
        (IntFormat(bits=8, symmetric=False), Rounding(overflow="wrap"), 0, False),
        (FixedFormat(word_length=8, fraction_length=-1), Rounding(), 0, False),
        (FixedFormat(word_length=8, fraction_length=128), Rounding(), 0, False),
        (catalog.INT8, Rounding(), 1 << 20, False),
        (catalog.FP8_E4M3FN, Rounding("stochastic", random_bits=16), 0, True),
        (catalog.FP16, Rounding("stochastic", random_bits=13), 0, False),
        (FloatFormat(exponent_bits=2, mantissa_bits=1, bias=-40), Rounding(), 0, False),
        (FloatFormat(exponent_bits=2, mantissa_bits=1, bias=128), Rounding(), 0, False),
        (FloatFormat(exponent_bits=8, mantissa_bits=23, bias=127), Rounding(), 0, False),
    ],
    ids=str,
)
def test_what_lanes_can_not_hold_takes_the_general_kernel(fmt, how, zero_point, expected) -> None:
    x, one = many_numbers(100), np.ones(1, dtype=np.float32)
    if isinstance(fmt, FloatFormat):
        used = lanes_used(float_lanes, lambda: float_codes(x, one, 1, fmt, how))
    else:
        lanes = integer_lanes if zero_point else whole_lanes
        used = lanes_used(lanes, lambda: integer_codes(x, one, 1, fmt, how, [zero_point]))
    assert used == expected


@pytest.mark.parametrize("random_bits", [8, 16])
@pytest.mark.parametrize("offset", [0, 1, 15, 1 << 33, (1 << 62) - 1])
def test_draws_have_their_addresses(random_bits: int, offset: int) -> None:
    # Zero scaled by anything stays zero; numbers just below an integer step with all random numbers but 0.
    x = np.full(300, 0.5, dtype=np.float32)
    stream, how = Stream(seed=1, offset=offset), Rounding("stochastic", random_bits=random_bits)
    half = 1 << (random_bits - 1)
    expected = [int(draw(stream, i, random_bits) >= half) for i in range(300)]
    one = np.ones(1, dtype=np.float32)
    assert integer_codes(x, one, 1, catalog.INT8, how, [0], stream).tolist() == expected


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN], ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(fmt) -> None:
    x, one = many_numbers(20 * CHUNK + 11), np.ones(1, dtype=np.float32)
    how, results = Rounding("stochastic", random_bits=8), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        if isinstance(fmt, FloatFormat):
            results.append(float_codes(x, one, 1, fmt, how))
        else:
            results.append(integer_codes(x, one, 1, fmt, how, [0]))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN, catalog.FP4_E2M1], ids=str)
@pytest.mark.parametrize("fits", [True, False])
def test_nans_are_counted(monkeypatch, fmt, fits: bool) -> None:
    x = np.ones(CHUNK + 5, dtype=np.float32)
    x[[0, 7, CHUNK, CHUNK + 4]] = np.nan, -np.nan, np.nan, np.nan
    codes, one = np.empty(x.size, dtype=np.int16), np.ones(1, dtype=np.float32)
    for module in (integer_lanes, float_lanes):
        if not fits:
            monkeypatch.setattr(module, "fits", lambda *args: False)
    if isinstance(fmt, FloatFormat):
        nans = kernels.quantize_to_floats(x, one, 1, fmt, Rounding(), None, codes)
    else:
        nans = kernels.quantize_to_integers(
            x, one, np.zeros(1, dtype=np.int64), 1, fmt, Rounding(), None, codes
        )
    assert nans == 4


def table_codes(x, inv, run, fmt, how, stream=STREAM) -> np.ndarray:
    codes = np.empty(x.size, dtype=np.int32)
    table_kernel.quantize_to_table(x, inv, run, fmt, how, stream, codes)
    return codes


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", TABLES, ids=str)
def test_tables_of_many_numbers(monkeypatch, fmt, mode: str) -> None:
    x = np.concatenate([element_probes(fmt), many_numbers(CHUNK // 2 + 3)])
    inv, how = np.array([1.0, 2.5, 2.0**-20], dtype=np.float32), rounding(mode)
    fast = table_codes(x, inv, 37, fmt, how)
    monkeypatch.setattr(table_lanes, "fits", lambda *args: False)
    np.testing.assert_array_equal(fast, table_codes(x, inv, 37, fmt, how))


@given(
    x=NUMBERS,
    fmt=st.sampled_from(TABLES),
    mode=st.sampled_from(list(RoundingMode)),
    random_bits=st.integers(1, 12),
    offset=st.integers(0, 40),
)
def test_tables_are_the_definition(x, fmt, mode, random_bits, offset) -> None:
    how, stream = rounding(mode, random_bits=random_bits), Stream(seed=7, offset=offset)
    randoms = [draw(stream, i, random_bits) if how.is_stochastic else 0 for i in range(x.size)]
    expected = [table_code(float(v), fmt, how, r) for v, r in zip(x, randoms, strict=True)]
    one = np.ones(1, dtype=np.float32)
    assert table_codes(x, one, 1, fmt, how, stream).tolist() == expected


def test_more_random_bits_than_tables_read_take_the_general_kernel() -> None:
    x, one = many_numbers(100), np.ones(1, dtype=np.float32)
    for random_bits, expected in ((16, True), (17, False)):
        how = Rounding("stochastic", random_bits=random_bits)
        assert lanes_used(table_lanes, lambda how=how: table_codes(x, one, 1, TABLES[0], how)) == expected


def test_nans_of_a_table_are_counted_and_have_its_code() -> None:
    x = np.ones(CHUNK + 5, dtype=np.float32)
    x[[3, CHUNK + 4]] = np.nan
    codes, one = np.empty(x.size, dtype=np.int32), np.ones(1, dtype=np.float32)
    assert table_kernel.quantize_to_table(x, one, 1, POSIT, Rounding(), None, codes) == 2
    assert codes[3] == codes[-1] == POSIT.nan_code
