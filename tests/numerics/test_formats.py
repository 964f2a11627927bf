"""Formats against tables written by hand from their specifications."""

import dataclasses
import math

import pytest

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import FloatFormat, IntFormat
from lowbit_sim.numerics.reference import float_value
from tests.numerics.cases import FLOATS

INTEGERS = [
    # format, qmin, qmax, name
    (IntFormat(bits=2), -1, 1, "int2"),
    (IntFormat(bits=4), -7, 7, "int4"),
    (IntFormat(bits=8), -127, 127, "int8"),
    (IntFormat(bits=16), -32767, 32767, "int16"),
    (IntFormat(bits=2, symmetric=False), -2, 1, "int2_full"),
    (IntFormat(bits=8, symmetric=False), -128, 127, "int8_full"),
    (IntFormat(bits=2, signed=False, symmetric=False), 0, 3, "uint2"),
    (IntFormat(bits=8, signed=False, symmetric=False), 0, 255, "uint8"),
    (IntFormat(bits=16, signed=False, symmetric=False), 0, 65535, "uint16"),
]

# OCP 8-bit Floating Point 1.0 table 1, OCP Microscaling Formats 1.0 table 5, IEEE 754-2019 table 3.5.
FLOAT_EXTREMES = [
    # format, width, largest value, smallest normal, smallest subnormal, infinity's code, NaN's code
    (catalog.FP8_E4M3FN, 8, 448.0, 2.0**-6, 2.0**-9, None, 0x7F),
    (catalog.FP8_E5M2, 8, 57344.0, 2.0**-14, 2.0**-16, 0x7C, 0x7E),
    (catalog.FP4_E2M1, 4, 6.0, 1.0, 0.5, None, None),
    (catalog.FP16, 16, 65504.0, 2.0**-14, 2.0**-24, 0x7C00, 0x7E00),
    (catalog.BF16, 16, 255 * 2.0**120, 2.0**-126, 2.0**-133, 0x7F80, 0x7FC0),
    (catalog.TF32, 19, 2047 * 2.0**117, 2.0**-126, 2.0**-136, 0x3FC00, 0x3FE00),
]


@pytest.mark.parametrize(("fmt", "qmin", "qmax", "name"), INTEGERS, ids=lambda v: str(v))
def test_integer_format(fmt: IntFormat, qmin: int, qmax: int, name: str) -> None:
    assert (fmt.qmin, fmt.qmax, fmt.name, str(fmt)) == (qmin, qmax, name, name)
    assert fmt.max_value == float(qmax)


@pytest.mark.parametrize(("fmt", "bits", "largest", "normal", "subnormal", "infinity", "nan"), FLOAT_EXTREMES)
def test_float_format(fmt: FloatFormat, bits, largest, normal, subnormal, infinity, nan) -> None:
    assert fmt.bits == bits
    assert fmt.max_value == largest
    assert float_value(fmt.max_code, fmt) == largest
    assert float_value(1 << fmt.mantissa_bits, fmt) == normal == 2.0**fmt.min_exponent
    assert float_value(1, fmt) == subnormal
    assert fmt.max_exponent == math.floor(math.log2(largest))
    assert (fmt.infinity_code, fmt.nan_code) == (infinity, nan)


def test_fp4_values() -> None:
    magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    assert [float_value(code, catalog.FP4_E2M1) for code in range(8)] == magnitudes
    assert [float_value(code, catalog.FP4_E2M1) for code in range(8, 16)] == [-v for v in magnitudes]


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (0x00, 0.0),
        (0x01, 2.0**-9),
        (0x07, 7 * 2.0**-9),
        (0x08, 2.0**-6),
        (0x38, 1.0),
        (0x39, 1.125),
        (0x7E, 448.0),
        (0xB8, -1.0),
        (0xFE, -448.0),
    ],
)
def test_e4m3_codes(code: int, value: float) -> None:
    assert float_value(code, catalog.FP8_E4M3FN) == value


@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_special_codes_read_as_what_they_are(fmt: FloatFormat) -> None:
    sign = 1 << (fmt.bits - 1)
    assert math.copysign(1.0, float_value(sign, fmt)) == -1.0
    assert float_value(sign, fmt) == 0.0
    for code in range(fmt.max_code + 1, sign):
        value = float_value(code, fmt)
        if code == fmt.infinity_code:
            assert value == math.inf
            assert float_value(sign | code, fmt) == -math.inf
        else:
            assert math.isnan(value)


def test_infinity_alone_takes_the_last_code() -> None:
    fmt = FloatFormat(exponent_bits=3, mantissa_bits=2, bias=3, has_nan=False)
    assert fmt.nan_code is None
    assert fmt.infinity_code == 0b11111
    assert fmt.max_value == 1.5 * 2.0**4


def test_flushed_subnormals_read_as_zero() -> None:
    fmt = FloatFormat(exponent_bits=3, mantissa_bits=2, bias=3, has_subnormals=False)
    assert [float_value(code, fmt) for code in range(5)] == [0.0, 0.0, 0.0, 0.0, 2.0**-2]


def test_exponent_field_of_one_bit_has_subnormals_only() -> None:
    fmt = FloatFormat(exponent_bits=1, mantissa_bits=2, bias=0)
    assert [float_value(code, fmt) for code in range(4)] == [0.0, 0.5, 1.0, 1.5]
    assert fmt.max_value == 1.5
    assert float_value(4, fmt) == math.inf


def test_exponent_only_format_is_powers_of_two() -> None:
    fmt = FloatFormat(exponent_bits=3, mantissa_bits=0, bias=3, has_infinity=False, has_nan=False)
    assert [float_value(code, fmt) for code in range(8)] == [0.0, *(2.0**e for e in range(-2, 5))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "bits=1"),
        ({"bits": 17}, "bits=17"),
        ({"bits": 0}, "bits=0"),
        ({"bits": 8, "signed": False}, "symmetric=False"),
    ],
)
def test_impossible_integer_format(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntFormat(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exponent_bits": 0, "mantissa_bits": 3, "bias": 1}, "exponent_bits=0"),
        ({"exponent_bits": 9, "mantissa_bits": 3, "bias": 1}, "exponent_bits=9"),
        ({"exponent_bits": 4, "mantissa_bits": -1, "bias": 7}, "mantissa_bits=-1"),
        ({"exponent_bits": 4, "mantissa_bits": 24, "bias": 7}, "mantissa_bits=24"),
        ({"exponent_bits": 4, "mantissa_bits": 0, "bias": 7}, "mantissa_bits=0"),
        ({"exponent_bits": 1, "mantissa_bits": 0, "bias": 0, "has_nan": False}, "no positive finite value"),
        ({"exponent_bits": 4, "mantissa_bits": 3, "bias": 148}, "bias=148.*-150"),
        ({"exponent_bits": 8, "mantissa_bits": 7, "bias": 126}, "bias=126.*128"),
        ({"exponent_bits": 4, "mantissa_bits": 3, "bias": 148, "has_subnormals": False}, "bias=148.*-150"),
    ],
)
def test_impossible_float_format(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FloatFormat(**arguments)


def test_flushing_the_only_values_of_a_format_is_refused() -> None:
    with pytest.raises(ValueError, match="no positive finite value"):
        FloatFormat(exponent_bits=1, mantissa_bits=2, bias=1, has_subnormals=False)


def test_lowest_biases_that_float32_holds() -> None:
    assert float_value(1, FloatFormat(exponent_bits=4, mantissa_bits=3, bias=147)) == 2.0**-149
    flushed = FloatFormat(exponent_bits=4, mantissa_bits=3, bias=147, has_subnormals=False)
    assert float_value(9, flushed) - float_value(8, flushed) == 2.0**-149
    assert FloatFormat(exponent_bits=8, mantissa_bits=23, bias=127).max_value == 3.4028234663852886e38


@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP16])
def test_formats_are_frozen_values(fmt) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        fmt.bits = 3
    assert dataclasses.replace(fmt) == fmt
    assert hash(dataclasses.replace(fmt)) == hash(fmt)


def test_anonymous_float_format_describes_itself() -> None:
    assert str(FloatFormat(exponent_bits=3, mantissa_bits=2, bias=3)) == "float_e3m2_bias3"
    assert str(catalog.BF16) == "bf16"
