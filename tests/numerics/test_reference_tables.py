"""The definition of table formats' codes and rounding against values worked out by hand."""

import math

import pytest

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import CodebookFormat, PositFormat, TableFormat
from lowbit_sim.numerics.reference_tables import members, posit_value, table_code, table_value
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import NF4, rounding

# sign, regime, exponent, fraction written out: 0x4D = 0 10 01 101 = 2^1 (1 + 5/8).
POSIT8 = {
    0x00: 0.0,
    0x01: 2.0**-24,
    0x02: 2.0**-20,
    0x03: 2.0**-18,
    0x20: 2.0**-4,
    0x30: 0.25,
    0x38: 0.5,
    0x40: 1.0,
    0x41: 1.125,
    0x44: 1.5,
    0x48: 2.0,
    0x4D: 3.25,
    0x50: 4.0,
    0x60: 16.0,
    0x61: 20.0,
    0x62: 24.0,
    0x7D: 2.0**18,
    0x7E: 2.0**20,
    0x7F: 2.0**24,
    0x81: -(2.0**24),
    0xA0: -16.0,
    0xB3: -3.25,
    0xC0: -1.0,
    0xC8: -0.5,
    0xFF: -(2.0**-24),
}


@pytest.mark.parametrize(("code", "value"), POSIT8.items())
def test_posit8_by_hand(code: int, value: float) -> None:
    assert table_value(code, catalog.POSIT8) == value


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (0x4000, 1.0),
        (0x0001, 2.0**-56),
        (0x7FFF, 2.0**56),
        (0x4C91, 3.1416015625),
        (0xB36F, -3.1416015625),
        (0x4001, 1 + 2.0**-11),
        (0x7FFD, 2.0**50),
    ],
)
def test_posit16_by_hand(code: int, value: float) -> None:
    assert table_value(code, catalog.POSIT16) == value


def classical_posit(code: int, bits: int, exponent_bits: int) -> float:
    """Gustafson and Yonemoto 2017: sign and magnitude, useed^k 2^e (1 + f); another formula for the same values."""
    if code == 0 or code == 1 << (bits - 1):
        return 0.0 if code == 0 else math.nan
    negative = code >> (bits - 1) == 1
    pattern = format((1 << bits) - code if negative else code, f"0{bits}b")[1:]
    ones = len(pattern) - len(pattern.lstrip("1"))
    zeros = len(pattern) - len(pattern.lstrip("0"))
    k = ones - 1 if ones else -zeros
    rest = pattern[max(ones, zeros) + 1 :]
    e = int((rest[:exponent_bits] + "000")[:exponent_bits] or "0", 2)
    f = sum(2.0**-i for i, digit in enumerate(rest[exponent_bits:], start=1) if digit == "1")
    value = (2.0**2**exponent_bits) ** k * 2.0**e * (1.0 + f)
    return -value if negative else value


@pytest.mark.parametrize(("bits", "exponent_bits"), [(3, 0), (6, 1), (8, 0), (8, 2), (8, 3), (12, 2)])
def test_every_posit_equals_the_classical_formula(bits: int, exponent_bits: int) -> None:
    for code in range(1 << bits):
        expected, found = classical_posit(code, bits, exponent_bits), posit_value(code, bits, exponent_bits)
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (math.pi, 0x4D),
        (1.0625, 0x40),  # ties to the even code
        (1.1875, 0x42),
        (-1.0625, 0xC0),
        (-1.1875, 0xBE),
        (1.06251, 0x41),
        (2.0**22, 0x7E),  # between 2^20 and 2^24 the posit of 9 bits is 2^22, not the arithmetic midpoint
        (2.0**22 * 1.001, 0x7F),
        (8.6e5 * 2, 0x7E),
        (3e38, 0x7F),
        (math.inf, 0x7F),
        (-math.inf, 0x81),
        (math.nan, 0x80),
        (1e-30, 0x01),
        (-1e-30, 0xFF),
        (2.0**-22, 0x02),
        (2.0**-22 * 0.999, 0x01),
        (0.0, 0x00),
        (-0.0, 0x00),
    ],
)
def test_nearest_posit_by_hand(x: float, code: int) -> None:
    assert table_code(x, catalog.POSIT8, Rounding()) == code


def test_only_nearest_keeps_a_posit_from_zero() -> None:
    fmt = catalog.POSIT8
    codes = {mode: table_code(1e-30, fmt, rounding(mode), random=0) for mode in RoundingMode}
    assert codes == {
        "nearest_even": 1,
        "nearest_away": 1,
        "toward_zero": 0,
        "down": 0,
        "up": 1,
        "stochastic": 0,
    }
    assert table_code(1.0625, fmt, Rounding("nearest_away")) == 0x41
    assert table_code(-1.0625, fmt, Rounding("nearest_away")) == 0xBF


@pytest.mark.parametrize(
    ("x", "mode", "value"),
    [
        (0.125, "nearest_even", 0.0),
        (0.125, "nearest_away", 0.25),
        (-0.125, "nearest_away", -0.25),
        (0.126, "nearest_even", 0.25),
        (1.5, "nearest_even", 2.0),
        (3.0, "nearest_even", 4.0),
        (-3.0, "nearest_even", -4.0),
        (2.9, "nearest_even", 2.0),
        (2.9, "up", 4.0),
        (-2.9, "up", -2.0),
        (-2.9, "down", -4.0),
        (-2.9, "toward_zero", -2.0),
        (100.0, "toward_zero", 16.0),
        (-math.inf, "up", -16.0),
    ],
)
def test_radix_2_by_hand(x: float, mode: str, value: float) -> None:
    assert table_value(table_code(x, catalog.LOG4_RADIX2, Rounding(mode)), catalog.LOG4_RADIX2) == value


@pytest.mark.parametrize(
    ("x", "even", "odd"),
    # Thresholds at the arithmetic midpoint: 2.5 * 4^n, and twice that on the odd grid (Sun et al. 2020).
    [
        (2.4999, 1.0, 2.0),
        (2.5, 4.0, 2.0),
        (4.9999, 4.0, 2.0),
        (5.0, 4.0, 8.0),
        (9.9999, 4.0, 8.0),
        (10.0, 16.0, 8.0),
    ],
)
def test_radix_4_by_hand(x: float, even: float, odd: float) -> None:
    for fmt, value in ((catalog.LOG4_RADIX4, even), (catalog.LOG4_RADIX4_ODD, odd)):
        assert table_value(table_code(x, fmt, Rounding()), fmt) == value
        assert table_value(table_code(-x, fmt, Rounding()), fmt) == -value


def test_the_sign_of_a_logarithmic_zero_is_kept() -> None:
    assert table_code(-0.0, catalog.LOG4_RADIX2, Rounding()) == 8
    assert table_code(-1e-9, catalog.LOG4_RADIX2, Rounding()) == 8
    assert math.copysign(1.0, table_value(8, catalog.LOG4_RADIX2)) == -1.0


def test_stochastic_radix_4_by_hand() -> None:
    # 6 is 1/6 of the way from 4 to 16: of 8 random numbers floor(8/6) = 1 carries.
    how = Rounding("stochastic", random_bits=3)
    values = [
        table_value(table_code(6.0, catalog.LOG4_RADIX4, how, r), catalog.LOG4_RADIX4) for r in range(8)
    ]
    assert values == [4.0] * 7 + [16.0]


@pytest.mark.parametrize(
    ("x", "mode", "code"),
    [
        (-2.0, "nearest_even", 0),  # between -3 (index 0) and -1 (index 1)
        (0.5, "nearest_even", 2),  # between -1 (index 1) and 2 (index 2)
        (-2.0, "nearest_away", 0),
        (0.5, "nearest_away", 2),
        (0.0, "toward_zero", 1),
        (1.9, "toward_zero", 1),
        (-1.5, "toward_zero", 1),
        (-9.0, "up", 0),
        (9.0, "down", 2),
    ],
)
def test_a_codebook_by_hand(x: float, mode: str, code: int) -> None:
    assert table_code(x, CodebookFormat(values=(-3.0, -1.0, 2.0)), Rounding(mode)) == code


def test_e8m0_by_hand() -> None:
    fmt = catalog.E8M0
    assert [table_value(code, fmt) for code in (0, 127, 254)] == [2.0**-127, 1.0, 2.0**127]
    assert math.isnan(table_value(255, fmt))
    for x, code in (
        (1.49, 127),
        (1.5, 128),
        (3.0, 129),
        (0.0, 0),
        (-5.0, 0),
        (math.nan, 255),
        (math.inf, 254),
    ):
        assert table_code(x, fmt, Rounding()) == code


@pytest.mark.parametrize(
    ("fmt", "code"), [(catalog.POSIT8, 256), (catalog.LOG4_RADIX2, 16), (NF4, 16), (NF4, -1)]
)
def test_code_that_a_format_lacks(fmt: TableFormat, code: int) -> None:
    with pytest.raises(ValueError, match=f"codes 0 to .*, got {code}"):
        table_value(code, fmt)


def test_nan_without_a_code() -> None:
    with pytest.raises(ValueError, match="log4_radix2 has no NaN"):
        table_code(math.nan, catalog.LOG4_RADIX2, Rounding())


def test_posit_thresholds_are_posits_of_one_more_bit() -> None:
    wider = {posit_value(code, 7, 1) for code in range(1 << 7)}
    for member in members(PositFormat(bits=6, exponent_bits=1))[:-1]:
        assert member.next_threshold is not None
        assert float(member.next_threshold) in wider
