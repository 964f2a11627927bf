"""The dispatch over formats: what is refused, ranges of codes, decoding."""

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.encode import check_rounding, code_range, decode, encode
from lowbit_sim.numerics.formats import Format
from lowbit_sim.numerics.rounding import Rounding
from tests.numerics.cases import ELEMENTS, NF4, overflows, rounding


@pytest.mark.parametrize(
    ("fmt", "rules"),
    [
        (catalog.INT8, ["saturate"]),
        (catalog.UINT8, ["saturate", "wrap"]),
        (parse_format("fixed<8,6>"), ["saturate", "wrap"]),
        (parse_format("fixed<8,6,symmetric>"), ["saturate"]),
        (catalog.FP8_E4M3FN, ["saturate", "infinity"]),
        (catalog.FP4_E2M1, ["saturate"]),
        (catalog.LOG4_RADIX2, ["saturate"]),
        (catalog.POSIT8, ["saturate"]),
        (NF4, ["saturate"]),
        (catalog.E8M0, ["saturate"]),
        (catalog.MXFP8_E4M3, ["saturate"]),
        (catalog.MXINT8, ["saturate"]),
    ],
    ids=str,
)
def test_overflow_rules(fmt: Format, rules: list[str]) -> None:
    assert overflows(fmt) == rules
    for rule in {"saturate", "wrap", "infinity"} - set(rules):
        with pytest.raises(ValueError, match=f"{fmt}.*saturate|pass symmetric=False"):
            check_rounding(fmt, rounding("down", rule))


def test_more_random_bits_than_a_codebook_leaves_room_for() -> None:
    assert NF4.max_random_bits == 27
    check_rounding(NF4, Rounding("stochastic", random_bits=27))
    with pytest.raises(ValueError, match="nf4 leave room for 27 random bits in float64, got random_bits=28"):
        check_rounding(NF4, Rounding("stochastic", random_bits=28))


@pytest.mark.parametrize(
    ("fmt", "low", "high"),
    [
        (catalog.INT8, -127, 127),
        (catalog.UINT4, 0, 15),
        (parse_format("fixed<4,9>"), -8, 7),
        (catalog.FP4_E2M1, 0, 15),
        (catalog.LOG4_RADIX4, 0, 15),
        (catalog.POSIT16, 0, 65535),
        (NF4, 0, 15),
        (catalog.E8M0, 0, 255),
        (catalog.MXINT8, -127, 127),
        (catalog.FP32, 0, 2**32 - 1),
    ],
    ids=str,
)
def test_code_range(fmt: Format, low: int, high: int) -> None:
    assert code_range(fmt) == (low, high)


def test_zero_points_are_for_integers() -> None:
    x, inv, codes = np.ones(3, np.float32), np.ones(1, np.float32), np.empty(3, np.int64)
    with pytest.raises(ValueError, match="posit8 has no zero point"):
        encode(x, inv, np.ones(1, np.int64), 3, catalog.POSIT8, Rounding(), None, codes)
    encode(x, inv, np.zeros(1, np.int64), 3, catalog.POSIT8, Rounding(), None, codes)
    assert codes.tolist() == [0x40] * 3
    encode(x, inv, np.ones(1, np.int64), 3, parse_format("fixed<8,2>"), Rounding(), None, codes)
    assert codes.tolist() == [5] * 3


def test_fixed_point_scales_after_the_product_is_a_float32() -> None:
    # x * inv is below float32's range and is 0 before it is counted in units of 2^-100.
    x, inv, codes = np.array([1e-30], np.float32), np.array([1e-20], np.float32), np.empty(1, np.int64)
    encode(x, inv, None, 1, parse_format("fixed<8,149>"), Rounding("up"), None, codes)
    assert codes.tolist() == [0]


@pytest.mark.parametrize("fmt", ELEMENTS, ids=str)
def test_decoding_gives_float32_of_any_shape(fmt) -> None:
    low, high = code_range(fmt)
    codes = torch.tensor([[low, high, low], [high, high, low]])
    values = decode(codes, fmt)
    assert values.dtype == torch.float32
    assert values.shape == (2, 3)
    assert torch.equal(decode(codes[:, 1], fmt), values[:, 1]) or torch.isnan(values[:, 1]).any()


@pytest.mark.parametrize("inner", [1, 3, 16, 5000])
def test_rows_of_a_table_format_have_their_own_scale(inner: int) -> None:
    x = np.linspace(-3, 3, 3001, dtype=np.float32)
    inv = np.array([0.5, 2.0, 1.0], dtype=np.float32)
    codes, alone = np.empty(x.size, np.int64), np.empty(x.size, np.int64)
    encode(x, inv, None, inner, NF4, Rounding(), None, codes)
    y = x * inv[np.arange(x.size) // inner % 3]
    encode(y, np.ones(1, np.float32), None, 1 << 14, NF4, Rounding(), None, alone)
    np.testing.assert_array_equal(codes, alone)
