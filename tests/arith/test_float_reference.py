"""The definition itself, against cases worked out by hand."""

import math
from fractions import Fraction

import pytest

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_reference import Adder, dot, multiply, overflows
from lowbit_sim.numerics.catalog import FP8_E4M3FN, FP8_E5M2, FP16, FP32
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.arith.float_strategies import DETERMINISTIC

IEEE = Rounding(overflow="infinity")


def adder(rounding=IEEE, random=0):
    return Adder(rounding, lambda addition: random)


def total(values, mac, rounding=IEEE):
    counts = adder(rounding)
    return dot(values, [1.0] * len(values), mac, counts), counts


def signed(x):
    return x, math.copysign(1.0, x)


# e5m2 has 1.0, 1.25, 1.5, 1.75, 2.0, 2.5: 1 + 0.125 lies half way, 1.25 + 0.125 half way to an even 1.5.
@pytest.mark.parametrize(
    ("mode", "up", "down"),
    [
        (RoundingMode.NEAREST_EVEN, (1.0, 1.5), (-1.0, -1.5)),
        (RoundingMode.NEAREST_AWAY, (1.25, 1.5), (-1.25, -1.5)),
        (RoundingMode.TOWARD_ZERO, (1.0, 1.25), (-1.0, -1.25)),
        (RoundingMode.DOWN, (1.0, 1.25), (-1.25, -1.5)),
        (RoundingMode.UP, (1.25, 1.5), (-1.0, -1.25)),
    ],
)
def test_ties(mode, up, down):
    plus = adder(Rounding(mode, overflow="infinity"))
    assert (plus.add(1.0, 0.125, FP8_E5M2), plus.add(1.25, 0.125, FP8_E5M2)) == up
    assert (plus.add(-1.0, -0.125, FP8_E5M2), plus.add(-1.25, -0.125, FP8_E5M2)) == down


def test_a_tie_is_broken_by_the_least_bit_of_the_exact_product():
    """1 + 2^-24 is a tie of float32; 2^-47 more, far below float64's last place beside a large sum, decides."""
    p = multiply(2.0**-12 + 2.0**-35, 2.0**-12, FloatMacUnit())
    assert p == 2.0**-24 + 2.0**-47
    assert adder().add(1.0, p, FP32) == 1.0 + 2.0**-23
    assert adder().add(1.0, 2.0**-24, FP32) == 1.0
    # float64 holds 1 + 2^-24 + 2^-47 exactly, but not this sum, which it takes for the tie.
    assert 1.0 + (2.0**-24 + 2.0**-80) == 1.0 + 2.0**-24
    assert adder().add(1.0, 2.0**-24 + 2.0**-70, FP32) == 1.0 + 2.0**-23


@pytest.mark.parametrize("random_bits", [1, 3, 6])
def test_every_random_integer_of_a_stochastic_addition(random_bits):
    """x + y lies n / 2^r of a spacing above a value: n of the 2^r integers round it up."""
    rounding = Rounding("stochastic", random_bits=random_bits)
    for n in range(2**random_bits):
        y = n * 2.0 ** -(10 + random_bits)
        sums = [adder(rounding, r).add(1.0, y, FP16) for r in range(2**random_bits)]
        assert sums.count(1.0 + 2.0**-10) == n
        assert sums.count(1.0) == 2**random_bits - n


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_signs_of_exact_zeros(mode):
    """IEEE 754-2019 section 6.3."""
    plus = adder(Rounding(mode, overflow="infinity"))
    opposite = -0.0 if mode == RoundingMode.DOWN else 0.0
    assert signed(plus.add(1.5, -1.5, FP16)) == signed(opposite)
    assert signed(plus.add(-1.5, 1.5, FP16)) == signed(opposite)
    assert signed(plus.add(0.0, -0.0, FP16)) == signed(opposite)
    assert signed(plus.add(0.0, 0.0, FP16)) == signed(0.0)
    assert signed(plus.add(-0.0, -0.0, FP16)) == signed(-0.0)


def test_a_sum_that_underflows_keeps_its_sign():
    assert signed(adder().add(0.0, -(2.0**-26), FP16)) == signed(-0.0)
    counts = adder()
    counts.add(0.0, -(2.0**-26), FP16)
    assert counts.swamped == 1


def test_infinities_and_nan():
    plus = adder()
    assert plus.add(math.inf, -65504.0, FP16) == math.inf
    assert math.isnan(plus.add(math.inf, -math.inf, FP16))
    assert math.isnan(plus.add(math.nan, 1.0, FP16))
    assert math.isnan(plus.add(math.inf, 1.0, FP8_E4M3FN))  # its overflow is NaN
    assert adder(Rounding()).add(math.inf, -1.0, FP16) == 65504.0  # saturates
    assert math.isnan(multiply(math.inf, 0.0, FloatMacUnit()))
    assert (plus.overflows, plus.swamped) == (0, 0)


@pytest.mark.parametrize(
    ("exact", "mode", "expected"),
    [
        (65519, "nearest_even", False),
        (65520, "nearest_even", True),  # half way to 65536: the largest value is odd
        (65520, "toward_zero", False),
        (65535, "toward_zero", False),
        (65536, "toward_zero", True),
        (65505, "up", True),
        (-65505, "up", False),
        (-65505, "down", True),
        (1 << 200, "down", True),
    ],
)
def test_what_counts_as_an_overflow_of_fp16(exact, mode, expected):
    assert overflows(Fraction(exact), FP16, Rounding(mode)) is expected


def test_an_even_largest_value_keeps_its_tie():
    """FP8 E4M3's largest is 448 = 1.110b 2^8: its tie with 480 stays."""
    assert not overflows(Fraction(464), FP8_E4M3FN, IEEE)
    assert overflows(Fraction(465), FP8_E4M3FN, IEEE)


def test_the_tree_is_balanced_and_carries_an_odd_one_up():
    # With 11 significant bits 2048 + 1 is a tie that loses the 1; 1 + 1 = 2 first is kept.
    tree = FloatMacUnit(accumulator=FP16, order="tree")
    assert total([2048.0, 0.0, 1.0, 1.0], tree)[0] == 2050.0
    assert total([2048.0, 1.0, 1.0], tree)[0] == 2048.0  # (2048 + 1) + 1
    assert total([1.0, 1.0, 2048.0], tree)[0] == 2050.0
    # Five: ((x0 + x1) + (x2 + x3)) + x4.
    assert total([1.0, 0.0, 0.0, 0.0, 2048.0], tree)[0] == 2048.0
    assert total([1.0, 0.0, 0.0, 1.0, 2048.0], tree)[0] == 2050.0


def test_the_tree_rounds_a_single_product():
    assert total([2049.0], FloatMacUnit(accumulator=FP16, order="tree"))[0] == 2048.0


def test_chunks_start_from_zero():
    mac = FloatMacUnit(accumulator=FP8_E5M2, chunk=4, outer=FP16)
    result, counts = total([1.0] * 16, mac)
    assert (result, counts.additions, counts.swamped) == (16.0, 20, 0)
    result, counts = total([1.0] * 16, FloatMacUnit(accumulator=FP8_E5M2))
    assert (result, counts.additions, counts.swamped) == (8.0, 16, 8)


def test_compensated_summation_keeps_what_was_swamped():
    ones = [2048.0] + [1.0] * 100
    assert total(ones, FloatMacUnit(accumulator=FP16))[0] == 2048.0
    result, counts = total(ones, FloatMacUnit(accumulator=FP16, kahan=True))
    assert (result, counts.additions) == (2148.0, 404)


def test_rounded_products():
    mac = FloatMacUnit(product=FP8_E4M3FN, product_rounding=Rounding("toward_zero"))
    assert multiply(1.125, 1.125, mac) == 1.25  # 1.265625
    assert multiply(1000.0, 1.0, mac) == 448.0
    assert math.isnan(multiply(1000.0, 1.0, FloatMacUnit(product=FP8_E4M3FN)))
