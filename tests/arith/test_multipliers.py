"""The shipped multipliers against their papers: the circuit written down another way, and the published errors."""

from fractions import Fraction

import numpy as np
import pytest

from lowbit_sim.arith import multipliers
from lowbit_sim.arith.multipliers import drum_multiplier, kulkarni_multiplier, mitchell_multiplier


def mitchell_by_logarithms(x: int, y: int) -> Fraction:
    """Linear log2 in, linear antilogarithm out."""
    if not x or not y:
        return Fraction(0)

    def log2(v: int) -> Fraction:
        k = v.bit_length() - 1
        return k + Fraction(v, 2**k) - 1

    total = log2(x) + log2(y)
    exponent = int(total)
    return 2**exponent * (1 + total - exponent)


def drum_by_bits(x: int, y: int, k: int) -> int:
    """On strings of bits: keep k, set the last, refill with zeros."""

    def shorten(v: int) -> int:
        bits = f"{v:b}"
        return v if len(bits) <= k else int(bits[: k - 1] + "1" + "0" * (len(bits) - k), 2)

    return shorten(x) * shorten(y)


def kulkarni_by_gates(x: int, y: int, bits: int) -> int:
    """The 2 x 2 block's four gates at every pair of digits of base 4."""
    total = 0
    for i in range(0, bits, 2):
        for j in range(0, bits, 2):
            a0, a1, b0, b1 = x >> i & 1, x >> (i + 1) & 1, y >> j & 1, y >> (j + 1) & 1
            block = (a1 & b1) << 2 | ((a1 & b0) | (a0 & b1)) << 1 | (a0 & b0)
            total += block << (i + j)
    return total


@pytest.mark.parametrize(
    ("table", "circuit"),
    [
        (mitchell_multiplier(8, signed=False), mitchell_by_logarithms),
        (mitchell_multiplier(5, signed=False), mitchell_by_logarithms),
        (drum_multiplier(8, 4, signed=False), lambda x, y: drum_by_bits(x, y, 4)),
        (drum_multiplier(8, 3, signed=False), lambda x, y: drum_by_bits(x, y, 3)),
        (kulkarni_multiplier(8, signed=False), lambda x, y: kulkarni_by_gates(x, y, 8)),
        (kulkarni_multiplier(2, signed=False), lambda x, y: kulkarni_by_gates(x, y, 2)),
    ],
    ids=lambda value: str(value) if hasattr(value, "bits") else "",
)
def test_every_product_is_the_circuits(table, circuit):
    for x in range(1 << table.bits):
        for y in range(1 << table.bits):
            assert table.product(x, y) == circuit(x, y)


@pytest.mark.parametrize("build", [mitchell_multiplier, drum_multiplier, kulkarni_multiplier])
def test_signed_codes_multiply_as_sign_and_magnitude(build):
    signed, unsigned = build(8), build(8, signed=False)
    for x in (-128, -127, -3, 0, 1, 77, 127):
        for y in range(-128, 128):
            sign = (x > 0) - (x < 0)
            assert signed.product(x, y) == sign * unsigned.product(abs(x), abs(y)) * (1 if y >= 0 else -1)


def test_mitchells_published_error():
    """Never too large, and at worst by 1/9: where both fractions are one half."""
    for signed in (False, True):
        statistics = mitchell_multiplier(8, signed=signed).error_statistics()
        assert statistics.worst_relative_error == 1 / 9
        assert statistics.wrong_zeros == 0
    table = mitchell_multiplier(8, signed=False)
    assert (table.table <= table.codes()[:, None] * table.codes()).all()
    assert table.product(3, 3) == 8
    # The mean over uniform operands tends to 3.85 %.
    x, y = np.random.default_rng(0).integers(1, 1 << 16, (2, 200_000))
    assert abs(1 - multipliers.mitchell(x, y) / (x * y)).mean() == pytest.approx(0.0385, abs=2e-4)


@pytest.mark.parametrize("k", [3, 4, 5, 6, 7])
def test_drums_worst_error_follows_from_its_definition(k):
    """An operand 2^t becomes 2^t (1 + 2^(1-k)), and no relative error is larger."""
    bound = (1 + 2.0 ** (1 - k)) ** 2 - 1
    assert drum_multiplier(8, k, signed=False).error_statistics().worst_relative_error == bound


@pytest.mark.parametrize(
    ("k", "mean"), [(3, 0.1190), (4, 0.0589), (5, 0.0294), (6, 0.0147), (7, 0.0073), (8, 0.0037)]
)
def test_drums_published_mean_error(k, mean):
    """Mean relative errors of the paper's 16-bit multipliers; and no bias to speak of."""
    x, y = np.random.default_rng(1).integers(1, 1 << 16, (2, 200_000))
    error = multipliers.drum(x, y, k) / (x * y) - 1
    assert abs(error).mean() == pytest.approx(mean, rel=0.01)
    assert abs(error.mean()) < mean / 5


def test_drum_of_all_bits_is_exact():
    assert drum_multiplier(8, 8).is_exact
    assert not drum_multiplier(8, 7).is_exact


@pytest.mark.parametrize(
    ("bits", "rate", "mean"), [(2, 1 / 16, 0.0139), (4, 49 / 256, 0.0260), (8, None, 0.0325)]
)
def test_kulkarnis_published_error(bits, rate, mean):
    """One product of 16 is wrong, by 2/9; the paper's means count the exact zeros too."""
    table = kulkarni_multiplier(bits, signed=False)
    statistics = table.error_statistics()
    assert statistics.worst_relative_error == 2 / 9
    if rate is not None:
        assert statistics.error_rate == rate
    pairs = (1 << bits) ** 2
    with_zeros = statistics.mean_relative_error * ((1 << bits) - 1) ** 2 / pairs
    assert with_zeros == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(
    ("build", "fields", "message"),
    [
        (mitchell_multiplier, {"bits": 1}, "2 to 10 bits, got bits=1"),
        (drum_multiplier, {"bits": 11}, "2 to 10 bits, got bits=11"),
        (drum_multiplier, {"bits": 8, "leading_bits": 9}, "got leading_bits=9"),
        (drum_multiplier, {"bits": 8, "leading_bits": 1}, "got leading_bits=1"),
        (kulkarni_multiplier, {"bits": 6}, "2, 4 or 8, got 6"),
    ],
)
def test_impossible_multipliers_are_refused(build, fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_multipliers_name_their_paper():
    assert str(drum_multiplier(8, 6)) == "drum6 (8-bit signed)"
    assert "ICCAD 2015" in drum_multiplier().source
    assert "1962" in mitchell_multiplier().source
    assert "VLSI Design 2011" in kulkarni_multiplier().source
