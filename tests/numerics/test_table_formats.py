"""Logarithmic, posit and codebook formats against values worked out by hand."""

import math

import numpy as np
import pytest

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import CodebookFormat, LogFormat, PositFormat
from lowbit_sim.numerics.table_formats import pair_bits
from tests.numerics.cases import NF4


def test_the_four_bit_logarithmic_formats() -> None:
    for fmt in (catalog.LOG4_RADIX2, catalog.LOG4_RADIX4, catalog.LOG4_RADIX4_ODD):
        assert (fmt.bits, fmt.max_code) == (4, 7)
    assert [catalog.LOG4_RADIX2.exponent_of(f) for f in range(1, 8)] == [-2, -1, 0, 1, 2, 3, 4]
    assert [catalog.LOG4_RADIX4.exponent_of(f) for f in range(1, 8)] == [-4, -2, 0, 2, 4, 6, 8]
    assert [catalog.LOG4_RADIX4_ODD.exponent_of(f) for f in range(1, 8)] == [-3, -1, 1, 3, 5, 7, 9]
    assert (catalog.LOG4_RADIX2.unit, catalog.LOG4_RADIX2.max_value) == (0.25, 16.0)
    assert (catalog.LOG4_RADIX4.unit, catalog.LOG4_RADIX4.max_value) == (0.0625, 256.0)
    assert (catalog.LOG4_RADIX4_ODD.unit, catalog.LOG4_RADIX4_ODD.max_value) == (0.125, 512.0)


def test_a_bias_moves_the_powers() -> None:
    assert LogFormat(exponent_bits=3, bias=7).max_value == 1.0
    assert LogFormat(exponent_bits=3, radix=4, bias=6).max_value == 4.0
    assert LogFormat(exponent_bits=5).unit is None
    assert str(LogFormat(exponent_bits=3, radix=4, odd=True)) == "log<3,4,3,odd>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exponent_bits": 0}, "exponent_bits=0"),
        ({"exponent_bits": 9}, "exponent_bits=9"),
        ({"exponent_bits": 3, "radix": 3}, "radix=3"),
        ({"exponent_bits": 3, "bias": 1.5}, "bias=1.5"),
        ({"exponent_bits": 3, "odd": True}, "odd=False"),
        ({"exponent_bits": 8}, "bias=127.*from -126 to 128"),
        ({"exponent_bits": 7, "radix": 4, "bias": 80}, "from -158 to 94"),
    ],
)
def test_impossible_logarithmic_format(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogFormat(**arguments)


def test_posits() -> None:
    assert (catalog.POSIT8.max_value, catalog.POSIT8.nan_code) == (2.0**24, 0x80)
    assert (catalog.POSIT16.max_value, catalog.POSIT16.nan_code) == (2.0**56, 0x8000)
    assert PositFormat(bits=8, exponent_bits=0).unit == 2.0**-6
    assert catalog.POSIT8.unit is None
    assert PositFormat(bits=8, exponent_bits=1).name == "posit<8,1>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 2}, "bits=2"),
        ({"bits": 17}, "bits=17"),
        ({"bits": 8, "exponent_bits": 4}, "exponent_bits=4"),
    ],
)
def test_impossible_posit_format(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PositFormat(**arguments)


def test_codebooks() -> None:
    fmt = CodebookFormat(values=[-0.5, 0, np.float32(0.75), 2])  # pyright: ignore[reportArgumentType]
    assert fmt.values == (-0.5, 0.0, 0.75, 2.0)
    assert (fmt.bits, fmt.unit, fmt.max_value) == (2, 0.25, 0.5)
    assert CodebookFormat(values=(1.0, 2.0, 3.0)).max_value == 3.0
    assert CodebookFormat(values=(-3.0, -2.0, 0.0)).max_value == 3.0
    assert CodebookFormat(values=tuple(range(257))).bits == 9
    assert (NF4.bits, NF4.unit, NF4.max_value) == (4, None, 1.0)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ((1.0,), ValueError, "2 to 65536 values, got 1"),
        ((1.0, 1.0), ValueError, r"ascend strictly, got values\[0\]=1.0"),
        ((2.0, 1.0), ValueError, "ascend strictly"),
        ((0.0, 0.1), ValueError, r"float32 values, got values\[1\]=0.1; the nearest is 0.1000000014"),
        ((0.0, 1e300), ValueError, "nearest is inf"),
        ((0.0, math.inf), ValueError, r"finite, got values\[1\]=inf"),
        ((math.nan, 0.0), ValueError, r"finite, got values\[0\]=nan"),
        ((2.0**-20, 2.0**24), ValueError, "need 45 bits in their common unit"),
        ((-(2.0**24), 2.0**-20), ValueError, "need 45 bits"),
        (3, TypeError, "a sequence of numbers, got 3"),
        (("a", "b"), TypeError, "a sequence of numbers"),
    ],
)
def test_impossible_codebook(values, error, message: str) -> None:
    with pytest.raises(error, match=message):
        CodebookFormat(values=values)


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        (0.0, 1.0, 1),
        (1.0, 2.0, 2),
        (2.0, 3.0, 2),
        (-1.0, 0.5, 2),
        (2.0**-20, 2.0**23, 44),
        (-1.0, -0.6961928009986877, 25),
    ],
)
def test_bits_of_a_pair(low: float, high: float, bits: int) -> None:
    assert pair_bits(low, high) == bits


def test_random_bits_that_a_codebook_leaves_room_for() -> None:
    assert CodebookFormat(values=(-1.0, 0.0, 1.0)).max_random_bits == 32
    assert CodebookFormat(values=(2.0**-20, 2.0**23)).max_random_bits == 8
