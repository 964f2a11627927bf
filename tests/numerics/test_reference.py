"""The definition itself, against tables worked out by hand and against counting."""

import math
from fractions import Fraction

import numpy as np
import pytest

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.catalog import CATALOG
from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.reference import (
    float32,
    float_code,
    float_value,
    integer_code,
    overflow_code,
    round_to_integer,
    wrap_to,
)
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import SMALL_FLOATS, SMALL_FORMATS, overflows, probes, reference_codes, rounding

DETERMINISTIC = [mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC]

# IEEE 754-2019 section 4.3, on both signs, ties included.
ROUNDED = {
    #                    -2.5 -1.5 -0.75 -0.5 -0.25 0  0.25 0.5 0.75 1.5 2.5
    "nearest_even": [-2, -2, -1, 0, 0, 0, 0, 0, 1, 2, 2],
    "nearest_away": [-3, -2, -1, -1, 0, 0, 0, 1, 1, 2, 3],
    "toward_zero": [-2, -1, 0, 0, 0, 0, 0, 0, 0, 1, 2],
    "down": [-3, -2, -1, -1, -1, 0, 0, 0, 0, 1, 2],
    "up": [-2, -1, 0, 0, 0, 0, 1, 1, 1, 2, 3],
}
ROUNDED_INPUTS = [-2.5, -1.5, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.5, 2.5]

#: Positive, negative, ties, integers, numbers far below any random bit, numbers far above any code.
STOCHASTIC_INPUTS = [
    *(k / 8 for k in range(-20, 21)),
    *(
        sign * y
        for sign in (1, -1)
        for y in (2.0**-149, 1e-40, 1e-9, 0.49999997, 0.99999994, 126.99999, 3e6 + 0.25)
    ),
    *(sign * 2.0**e for sign in (1, -1) for e in (40, 100, 127)),
]


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_modes_by_hand(mode: str) -> None:
    assert [round_to_integer(Fraction(y), mode) for y in ROUNDED_INPUTS] == ROUNDED[mode]


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="unknown rounding mode 'sideways'"):
        round_to_integer(Fraction(1, 2), "sideways")


@pytest.mark.parametrize("random_bits", [1, 3, 8])
def test_stochastic_rounds_up_for_exactly_the_right_number_of_random_integers(random_bits: int) -> None:
    every = range(1 << random_bits)
    for value in STOCHASTIC_INPUTS:
        y = Fraction(float32(value))
        floor = math.floor(y)
        codes = [round_to_integer(y, "stochastic", random, random_bits) for random in every]
        assert set(codes) <= {floor, floor + 1}
        assert sum(codes) - floor * len(every) == math.floor((y - floor) * 2**random_bits)
        assert codes == sorted(codes)


@pytest.mark.parametrize("fmt", SMALL_FLOATS, ids=str)
def test_stochastic_floats_grow_for_exactly_the_right_number_of_random_integers(fmt: FloatFormat) -> None:
    random_bits = 4
    how = Rounding("stochastic", random_bits=random_bits)
    for low in range(fmt.max_code):
        below, above = (Fraction(float_value(code, fmt)) for code in (low, low + 1))
        for part in (Fraction(0), Fraction(1, 64), Fraction(5, 16), Fraction(1, 2), Fraction(63, 64)):
            for sign in (0, 1 << (fmt.bits - 1)):
                x = float(below + part * (above - below)) * (-1.0 if sign else 1.0)
                codes = [float_code(x, fmt, how, random) - low for random in range(1 << random_bits)]
                if math.copysign(1.0, x) < 0:
                    codes = [code - sign for code in codes]
                assert set(codes) <= {0, 1}
                assert sum(codes) == math.floor(part * 2**random_bits)


@pytest.mark.parametrize(
    ("code", "bits", "signed", "wrapped"),
    [
        (127, 8, True, 127),
        (128, 8, True, -128),
        (-129, 8, True, 127),
        (256, 8, True, 0),
        (-1, 8, False, 255),
        (256, 8, False, 0),
        (8, 4, True, -8),
        (-(10**30), 16, True, -(10**30) % 65536 - (65536 if -(10**30) % 65536 >= 32768 else 0)),
    ],
)
def test_wrap(code: int, bits: int, signed: bool, wrapped: int) -> None:
    assert wrap_to(code, bits, signed) == wrapped


@pytest.mark.parametrize(
    ("y", "fmt", "overflow", "zero_point", "code"),
    [
        (127.5, catalog.INT8, "saturate", 0, 127),
        (-128.0, catalog.INT8, "saturate", 0, -127),
        (128.0, IntFormat(bits=8, symmetric=False), "saturate", 0, 127),
        (128.0, IntFormat(bits=8, symmetric=False), "wrap", 0, -128),
        (-129.0, IntFormat(bits=8, symmetric=False), "wrap", 0, 127),
        (math.inf, IntFormat(bits=8, symmetric=False), "wrap", 0, 127),
        (-math.inf, IntFormat(bits=8, symmetric=False), "wrap", 0, -128),
        (-3.0, catalog.UINT8, "saturate", 0, 0),
        (-3.0, catalog.UINT8, "saturate", 128, 125),
        (-3.0, catalog.UINT8, "wrap", 0, 253),
        (2.0**127, catalog.UINT8, "wrap", 3, 3),
        (0.5, catalog.UINT8, "saturate", 1, 1),
    ],
)
def test_integer_codes_by_hand(y: float, fmt: IntFormat, overflow, zero_point: int, code: int) -> None:
    assert integer_code(y, fmt, Rounding(overflow=overflow), zero_point=zero_point) == code


@pytest.mark.parametrize(
    ("x", "rounded"),
    [
        # Values 0 0.5 1 1.5 2 3 4 6; a tie goes to the even code.
        (0.25, 0.0),
        (0.26, 0.5),
        (0.75, 1.0),
        (1.25, 1.0),
        (1.75, 2.0),
        (2.5, 2.0),
        (3.5, 4.0),
        (5.0, 4.0),
        (5.1, 6.0),
        (100.0, 6.0),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_fp4_by_hand(x: float, rounded: float, sign: float) -> None:
    code = float_code(sign * x, catalog.FP4_E2M1, Rounding())
    assert float_value(code, catalog.FP4_E2M1) == sign * rounded
    assert code >> 3 == (sign < 0)


@pytest.mark.parametrize(
    ("fmt", "x", "mode", "overflow", "code"),
    [
        # 464 is half way from 448 to 480, the value that the NaN's code would have; 448 has the even code.
        (catalog.FP8_E4M3FN, 464.0, "nearest_even", "infinity", 0x7E),
        (catalog.FP8_E4M3FN, 464.00003, "nearest_even", "infinity", 0x7F),
        (catalog.FP8_E4M3FN, 464.00003, "nearest_even", "saturate", 0x7E),
        (catalog.FP8_E4M3FN, 464.0, "nearest_away", "infinity", 0x7F),
        (catalog.FP8_E4M3FN, math.inf, "nearest_even", "infinity", 0x7F),
        (catalog.FP8_E4M3FN, math.inf, "nearest_even", "saturate", 0x7E),
        # 61440 is half way from 57344 to 65536, and infinity has the even code.
        (catalog.FP8_E5M2, 61439.996, "nearest_even", "infinity", 0x7B),
        (catalog.FP8_E5M2, 61440.0, "nearest_even", "infinity", 0x7C),
        (catalog.FP8_E5M2, -61440.0, "nearest_even", "infinity", 0xFC),
        (catalog.FP8_E5M2, -61440.0, "nearest_even", "saturate", 0xFB),
        # IEEE 754-2019 section 7.4: a mode that rounds this sign's magnitude down stops at the largest value.
        (catalog.FP8_E5M2, 1e9, "toward_zero", "infinity", 0x7B),
        (catalog.FP8_E5M2, 1e9, "down", "infinity", 0x7B),
        (catalog.FP8_E5M2, 1e9, "up", "infinity", 0x7C),
        (catalog.FP8_E5M2, -1e9, "up", "infinity", 0xFB),
        (catalog.FP8_E5M2, -1e9, "down", "infinity", 0xFC),
        (catalog.FP8_E5M2, math.inf, "down", "infinity", 0x7C),
        (catalog.FP8_E5M2, -math.inf, "toward_zero", "infinity", 0xFC),
        # The smallest subnormal is 2^-16; half of it ties to zero, and its sign stays.
        (catalog.FP8_E5M2, 2.0**-17, "nearest_even", "saturate", 0x00),
        (catalog.FP8_E5M2, -(2.0**-17), "nearest_even", "saturate", 0x80),
        (catalog.FP8_E5M2, 2.0**-149, "up", "saturate", 0x01),
        (catalog.FP8_E5M2, -(2.0**-149), "down", "saturate", 0x81),
        (catalog.FP8_E5M2, -(2.0**-149), "up", "saturate", 0x80),
        # The carry out of a subnormal mantissa makes the smallest normal number.
        (catalog.FP8_E4M3FN, 7.5 * 2.0**-9, "nearest_even", "saturate", 0x08),
        (catalog.FP8_E5M2, math.nan, "nearest_even", "saturate", 0x7E),
    ],
)
def test_float_codes_by_hand(fmt: FloatFormat, x: float, mode: str, overflow, code: int) -> None:
    assert float_code(float32(x), fmt, Rounding(mode, overflow)) == code


def test_without_subnormals_zero_and_the_smallest_normal_are_neighbours() -> None:
    fmt = FloatFormat(exponent_bits=3, mantissa_bits=2, bias=3, has_subnormals=False)
    expected = {0.1: 0.0, 0.125: 0.0, 0.1251: 0.25, 0.2499: 0.25, 0.3: 0.3125}
    assert {x: float_value(float_code(x, fmt, Rounding()), fmt) for x in expected} == expected


def test_nan_without_a_code() -> None:
    with pytest.raises(ValueError, match="fp4_e2m1 has no NaN"):
        float_code(math.nan, catalog.FP4_E2M1, Rounding())


def test_overflow_without_a_code() -> None:
    with pytest.raises(ValueError, match="fp4_e2m1 has neither infinity nor NaN"):
        overflow_code(catalog.FP4_E2M1, Rounding(overflow="infinity"))


@pytest.mark.parametrize("code", [-1, 16])
def test_code_that_a_format_lacks(code: int) -> None:
    with pytest.raises(ValueError, match=f"codes 0 to 15, got {code}"):
        float_value(code, catalog.FP4_E2M1)


@pytest.mark.parametrize(
    ("x", "rounded"),
    [
        (1.0 + 2.0**-24, 1.0),
        (1.0 + 3 * 2.0**-24, 1.0 + 2.0**-22),
        (2.0**-150, 0.0),
        (1e300, math.inf),
        (-1e300, -math.inf),
        (math.inf, math.inf),
    ],
)
def test_float32(x: float, rounded: float) -> None:
    assert float32(x) == rounded


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", SMALL_FORMATS, ids=str)
def test_every_value_of_a_small_format_rounds_to_itself(fmt: Format, mode: str) -> None:
    for overflow in overflows(fmt):
        how = rounding(mode, overflow, random_bits=1)
        if isinstance(fmt, IntFormat):
            codes = range(fmt.qmin, fmt.qmax + 1)
            assert [integer_code(float(code), fmt, how, random=1) for code in codes] == list(codes)
        else:
            codes = [sign + code for sign in (0, 1 << (fmt.bits - 1)) for code in range(fmt.max_code + 1)]
            assert [float_code(float_value(code, fmt), fmt, how, random=1) for code in codes] == codes


@pytest.mark.parametrize("fmt", [f for f in CATALOG.values() if isinstance(f, FloatFormat)], ids=str)
def test_larger_codes_are_larger_values(fmt: FloatFormat) -> None:
    step = max(1, fmt.max_code >> 12)
    values = [float_value(code, fmt) for code in range(0, fmt.max_code + 1, step)]
    assert all(low < high for low, high in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", [catalog.INT4, catalog.UINT4, *SMALL_FLOATS], ids=str)
def test_rounding_is_monotone_and_within_one_step(fmt: Format, mode: str) -> None:
    inputs = probes(fmt)
    how = rounding(mode, random_bits=3)
    if isinstance(fmt, IntFormat):
        values = np.array([integer_code(x, fmt, how, random=5) for x in inputs.tolist()], dtype=np.float64)
    else:
        values = np.array([float_value(float_code(x, fmt, how, random=5), fmt) for x in inputs.tolist()])
    assert (np.diff(values) >= 0).all()
    every = np.unique(values)
    inside = (inputs >= every[0]) & (inputs <= every[-1])
    nearest_below = every[np.searchsorted(every, inputs[inside], side="right") - 1]
    nearest_above = every[np.searchsorted(every, inputs[inside], side="left")]
    assert ((values[inside] == nearest_below) | (values[inside] == nearest_above)).all()


def test_infinities_saturate_in_every_integer_mode() -> None:
    infinities = np.array([np.inf, -np.inf], dtype=np.float32)
    for mode in DETERMINISTIC:
        assert reference_codes(infinities, catalog.INT4, rounding(mode)).tolist() == [7, -7]
