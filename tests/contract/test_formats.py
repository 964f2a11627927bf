"""What every format must hold, over the whole catalogue and one of each family."""

import dataclasses
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, reject

from lowbit_sim.numerics.catalog import CATALOG
from lowbit_sim.numerics.encode import check_rounding, code_range, decode
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
    LogFormat,
    PositFormat,
    TableFormat,
)
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import decode_value, encode_value, round_to_integer
from lowbit_sim.numerics.reference_tables import members
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import (
    ELEMENTS,
    element_probes,
    kernel_codes,
    overflows,
    reference_codes,
    rounding,
    some_values,
    stream_draws,
)
from tests.properties.strategies import float32_values, streams

STREAM = Stream(seed=3, step=1, site=4, operand=1, offset=5)
SMALL = [fmt for fmt in ELEMENTS if fmt.bits <= 8]
#: Their stochastic rounding adds to the magnitude; integers and fixed point floor.
MAGNITUDES = [fmt for fmt in SMALL if not isinstance(fmt, IntFormat | FixedFormat)]
ORDERED = [fmt for fmt in ELEMENTS if fmt.bits <= 8 or isinstance(fmt, PositFormat)]


def finite_codes(fmt: ElementFormat) -> list[int]:
    """Every code of a finite value, but those that a float without subnormals leaves unused."""
    low, high = code_range(fmt)
    return [code for code in range(low, high + 1) if math.isfinite(decode_value(code, fmt))]


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", ELEMENTS, ids=str)
def test_kernel_is_the_definition_at_values_ties_and_edges(fmt: ElementFormat, mode: str) -> None:
    inputs = element_probes(fmt)
    # All of them up to 8 bits: their number is below 4000.
    inputs = inputs if fmt.bits <= 8 else inputs[:: inputs.size // 500]
    for overflow in overflows(fmt):
        how = rounding(mode, overflow)
        expected = reference_codes(inputs, fmt, how, STREAM)
        np.testing.assert_array_equal(kernel_codes(inputs, fmt, how, STREAM), expected)


@given(data=st.data(), fmt=st.sampled_from(ELEMENTS), stream=streams())
def test_kernel_is_the_definition_anywhere(data, fmt: ElementFormat, stream: Stream) -> None:
    mode = data.draw(st.sampled_from(list(RoundingMode)))
    most = fmt.max_random_bits if isinstance(fmt, CodebookFormat) else 32
    how = Rounding(
        mode,
        data.draw(st.sampled_from(overflows(fmt))),
        data.draw(st.integers(1, most)) if mode is RoundingMode.STOCHASTIC else 0,
    )
    values = some_values(fmt)
    near = st.builds(
        lambda i, part: np.float32(values[i] + (values[i + 1] - values[i]) * part),
        st.integers(0, len(values) - 2),
        st.floats(0, 1),
    )
    y = np.array(data.draw(st.lists(st.one_of(near, float32_values()), max_size=20)), dtype=np.float32)
    expected = reference_codes(y, fmt, how, stream)
    np.testing.assert_array_equal(kernel_codes(y, fmt, how, stream), expected)


@st.composite
def codebooks(draw) -> CodebookFormat:
    """Codebooks of any float32 values, of small whole numbers, or of both."""
    values = draw(
        st.lists(st.one_of(float32_values(), st.integers(-9, 9).map(np.float32)), min_size=2, max_size=9)
    )
    ordered = sorted({float(v) for v in values if np.isfinite(v)})
    try:
        return CodebookFormat(values=tuple(ordered))
    except ValueError:
        reject()


TABLES = st.one_of(
    codebooks(),
    st.builds(PositFormat, bits=st.integers(3, 10), exponent_bits=st.integers(0, 3)),
    st.builds(LogFormat, exponent_bits=st.integers(1, 6), bias=st.integers(0, 30)),
    st.builds(
        LogFormat,
        exponent_bits=st.integers(1, 5),
        radix=st.just(4),
        bias=st.integers(0, 30),
        odd=st.booleans(),
    ),
)
FIXED = st.builds(
    FixedFormat,
    word_length=st.integers(2, 16),
    fraction_length=st.integers(-40, 149),
    symmetric=st.booleans(),
)


@given(data=st.data(), fmt=st.one_of(TABLES, FIXED), stream=streams())
def test_any_table_or_fixed_point_kernel_is_the_definition(data, fmt: ElementFormat, stream: Stream) -> None:
    mode = data.draw(st.sampled_from(list(RoundingMode)))
    most = fmt.max_random_bits if isinstance(fmt, CodebookFormat) else 32
    random_bits = data.draw(st.integers(1, most)) if mode is RoundingMode.STOCHASTIC else 0
    how = Rounding(mode, data.draw(st.sampled_from(overflows(fmt))), random_bits)
    inputs = data.draw(st.lists(st.sampled_from(element_probes(fmt).tolist()), max_size=20))
    y = np.array(inputs, dtype=np.float32)
    np.testing.assert_array_equal(kernel_codes(y, fmt, how, stream), reference_codes(y, fmt, how, stream))


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_every_code_survives_a_round_trip(fmt: ElementFormat) -> None:
    codes = np.array(finite_codes(fmt))
    values = decode(torch.from_numpy(codes), fmt).numpy()
    assert values.tolist() == [decode_value(int(code), fmt) for code in codes]
    for mode in RoundingMode:
        how = rounding(mode)
        np.testing.assert_array_equal(kernel_codes(values, fmt, how, STREAM), codes)
        assert [encode_value(float(v), fmt, how, random=255) for v in values] == codes.tolist()


def test_every_float32_pattern_near_enough_is_an_fp32() -> None:
    fp32 = CATALOG["fp32"]
    patterns = np.random.default_rng(0).integers(0, 1 << 32, 50_000, dtype=np.uint64)
    patterns = np.concatenate([patterns, [0, 1, 1 << 31, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x007FFFFF]])
    values = patterns.astype(np.uint32).view(np.float32)
    values, patterns = values[~np.isnan(values)], patterns[~np.isnan(values)]
    for mode in RoundingMode:
        how = rounding(mode, "infinity")
        np.testing.assert_array_equal(kernel_codes(values, fp32, how, STREAM), patterns.astype(np.int64))
    back = decode(torch.from_numpy(patterns.astype(np.int64)), fp32).numpy()
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", ELEMENTS, ids=str)
def test_rounding_is_monotone_and_takes_a_neighbour(fmt: ElementFormat, mode: str) -> None:
    inputs = element_probes(fmt)
    inputs = inputs[:: max(1, inputs.size // 400)]
    inputs = inputs[np.isfinite(inputs)]
    how = rounding(mode)
    codes = [encode_value(x, fmt, how, random=77 if how.is_stochastic else 0) for x in inputs.tolist()]
    rounded = np.array([decode_value(code, fmt) for code in codes])
    assert (np.diff(rounded) >= 0).all()
    if fmt.bits > 8:
        return
    values = some_values(fmt)
    inside = (inputs >= values[0]) & (inputs <= values[-1])
    below = values[np.searchsorted(values, inputs[inside], side="right") - 1]
    above = values[np.searchsorted(values, inputs[inside], side="left")]
    assert ((rounded[inside] == below) | (rounded[inside] == above)).all()
    expected = {"down": below, "up": above}.get(mode)
    assert expected is None or (rounded[inside] == expected).all()
    if mode.startswith("nearest") and not isinstance(fmt, PositFormat):
        distance = np.minimum(inputs[inside] - below, above - inputs[inside])
        assert (np.abs(rounded[inside] - inputs[inside]) == distance).all()


@pytest.mark.parametrize("random_bits", [1, 3, 8])
@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_stochastic_rounding_is_unbiased_over_all_random_words(fmt: ElementFormat, random_bits: int) -> None:
    """The mean over all 2^r words is the number, where its place between its neighbours is a multiple of 2^-r."""
    how = Rounding("stochastic", random_bits=random_bits)
    values = some_values(fmt)
    for low, high in list(zip(values, values[1:], strict=False))[:: max(1, len(values) // 5)]:
        for part in {0, 1, (1 << random_bits) // 3, (1 << random_bits) - 1}:
            x = float(low + (high - low) * part / (1 << random_bits))
            if float(np.float32(x)) != x:
                continue
            words = range(1 << random_bits)
            total = sum(Fraction(decode_value(encode_value(x, fmt, how, word), fmt)) for word in words)
            assert total / (1 << random_bits) == Fraction(x)


@pytest.mark.parametrize("fmt", MAGNITUDES, ids=str)
def test_stochastic_kernel_leaves_the_near_neighbour_exactly_from_its_threshold(fmt: ElementFormat) -> None:
    # Each of the 256 random integers occurs among 8192 draws, so this covers the whole table.
    stream = Stream(seed=9)
    draws = stream_draws(stream, 8192, 8)
    assert len(np.unique(draws)) == 256
    how = Rounding("stochastic", random_bits=8)
    values = some_values(fmt)
    for i in {0, len(values) // 2 - 1, len(values) - 2}:
        x = np.float32(values[i] + (values[i + 1] - values[i]) * 0.3)
        near, far = sorted((values[i], values[i + 1]), key=abs)
        kept = math.floor((Fraction(float(x)) - Fraction(near)) / (Fraction(far) - Fraction(near)) * 256)
        codes = kernel_codes(np.full(8192, x), fmt, how, stream)
        rounded = decode(torch.from_numpy(codes), fmt).numpy()
        np.testing.assert_array_equal(rounded, np.where(kept + draws >= 256, far, near))


@pytest.mark.parametrize("fmt", ELEMENTS, ids=str)
def test_infinities_and_beyond_saturate(fmt: ElementFormat) -> None:
    values = some_values(fmt)
    inputs = np.array([np.inf, -np.inf, 3.4e38, -3.4e38], dtype=np.float32)
    for mode in RoundingMode:
        codes = kernel_codes(inputs, fmt, rounding(mode), STREAM)
        rounded = decode(torch.from_numpy(codes), fmt).numpy()
        np.testing.assert_array_equal(rounded[:2], values[[-1, 0]])
        if values[-1] < 3.3e38:
            np.testing.assert_array_equal(rounded[2:], values[[-1, 0]])


@pytest.mark.parametrize("fmt", ELEMENTS, ids=str)
def test_the_unit_is_the_largest_power_of_two_that_divides_every_value(fmt: ElementFormat) -> None:
    values = some_values(fmt)
    top = np.abs(values).max()
    if fmt.unit is None:
        smallest = np.abs(values[values != 0]).min()
        lowest = Fraction(smallest)
        # The largest power of two that divides the smallest magnitude is an upper bound of any unit.
        power = Fraction(lowest.numerator & -lowest.numerator, lowest.denominator)
        assert Fraction(top) / power > 65535 or fmt is NAMED["nf4"]
        return
    multiples = values / fmt.unit
    assert (multiples == np.rint(multiples)).all()
    assert np.abs(multiples).max() <= 65536
    assert (multiples % 2 == 1).any()


NAMED = {fmt.name: fmt for fmt in ELEMENTS}


@pytest.mark.parametrize("fmt", dict.fromkeys([*CATALOG.values(), *ELEMENTS]), ids=str)
def test_a_format_is_a_frozen_value(fmt: Format) -> None:
    assert dataclasses.replace(fmt) == fmt
    assert hash(dataclasses.replace(fmt)) == hash(fmt)
    assert str(fmt) == fmt.name or not fmt.name
    if isinstance(fmt, BlockFormat):
        element = fmt.element
        assert (fmt.bits, fmt.unit, fmt.max_value) == (element.bits, element.unit, element.max_value)
        assert code_range(fmt) == code_range(element)
        with pytest.raises(ValueError, match="saturate"):
            check_rounding(fmt, rounding("down", "infinity"))


@pytest.mark.parametrize("fmt", ORDERED, ids=str)
def test_larger_codes_are_larger_values(fmt: ElementFormat) -> None:
    codes = finite_codes(fmt)
    if isinstance(fmt, FloatFormat | LogFormat):
        codes = [code for code in codes if code < 1 << (fmt.bits - 1)]
    if isinstance(fmt, PositFormat):
        codes = sorted(codes, key=lambda code: code - (code >> (fmt.bits - 1) << fmt.bits))
    values = [decode_value(code, fmt) for code in codes]
    assert all(low < high for low, high in zip(values, values[1:], strict=False))


@given(y=float32_values(), mode=st.sampled_from(list(RoundingMode)), random=st.integers(0, 255))
def test_logarithms_of_radix_2_are_floats_without_mantissa(y, mode, random) -> None:
    log = NAMED["log4_radix2"]
    twin = FloatFormat(exponent_bits=3, mantissa_bits=0, bias=3, has_infinity=False, has_nan=False)
    how = rounding(mode)
    assert encode_value(float(y), log, how, random) == encode_value(float(y), twin, how, random)


@pytest.mark.parametrize("fmt", [f for f in SMALL if isinstance(f, FixedFormat)], ids=str)
def test_fixed_point_is_integers_in_units(fmt: FixedFormat) -> None:
    inputs = element_probes(fmt)
    inputs = inputs[np.isfinite(inputs)]
    for mode in ("nearest_even", "down"):
        for x in inputs[::5].tolist():
            steps = round_to_integer(Fraction(x) * Fraction(2) ** fmt.fraction_length, mode)
            expected = min(max(steps, fmt.qmin), fmt.qmax)
            assert encode_value(x, fmt, Rounding(mode)) == expected


@pytest.mark.parametrize("fmt", [f for f in ELEMENTS if isinstance(f, TableFormat)], ids=str)
def test_thresholds_lie_between_their_neighbours(fmt: TableFormat) -> None:
    every = members(fmt)
    for low, high in zip(every, every[1:], strict=False):
        assert low.next_threshold is not None
        assert low.value <= low.next_threshold <= high.value
        assert low.value < high.value
