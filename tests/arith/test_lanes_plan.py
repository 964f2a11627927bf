"""What lanes need to know of operands, and what they refuse."""

import math
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import DIRECT, Extent, Plan, extent, growth, plan
from lowbit_sim.numerics.catalog import BF16, FP8_E4M3FN, FP16, FP32
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding, RoundingMode


def last_place(x: float) -> int:
    """The largest e with x a whole multiple of 2^e."""
    ratio = Fraction(x)
    e = -(ratio.denominator.bit_length() - 1)
    n = abs(ratio.numerator)
    return e if e else (n & -n).bit_length() - 1


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_an_extent_is_that_of_the_elements(numbers):
    found = extent(torch.tensor(numbers))
    some = [x for x in numbers if x]
    assert found.largest == max(map(abs, numbers))
    if some:
        assert found.last == min(map(last_place, some))
        bits = [int(abs(Fraction(x)) / Fraction(2) ** last_place(x)).bit_length() for x in some]
        assert found.bits == max(bits)
        assert found.whole == (found.largest / Fraction(2) ** found.last <= 65535)


def test_the_extent_of_many_of_none_and_of_what_is_not_finite():
    x = torch.ones(300, 301)
    x[299, 300], x[150, 7] = 2.0**-9, -48.0
    assert extent(x) == extent(x.t()) == Extent(largest=48.0, last=-9, bits=2)
    assert extent(torch.zeros(2, 0)) == extent(torch.zeros(3))
    assert extent(torch.zeros(3)).whole
    assert math.isnan(extent(torch.tensor([1.0, math.nan, math.inf])).largest)
    assert extent(torch.tensor([1.0, -math.inf])).largest == math.inf
    assert not extent(torch.tensor([math.inf])).whole


@given(
    st.integers(1, 60),
    st.floats(2.0**-20, 8.0, width=32),
    st.sampled_from([FP16, BF16, FP8_E4M3FN, FloatFormat(exponent_bits=6, mantissa_bits=1, bias=31)]),
    st.sampled_from(list(RoundingMode)),
)
def test_no_sum_outgrows_its_bound(terms, largest, fmt, mode):
    mac = FloatMacUnit(accumulator=fmt, rounding=Rounding(mode, random_bits=2 if mode == "stochastic" else 0))
    ones = torch.ones(terms, 1)
    total = run_float_gemm(
        torch.full((1, terms), largest), ones, mac, stream=Stream(seed=terms), backend="reference"
    )
    assert float(total.values) <= growth(terms, largest, fmt, mac.rounding)


def test_sums_stop_growing_where_no_term_moves_them():
    """That of fp16 ones to nearest stops at 2048, which is within a factor of 2 of the bound."""
    assert growth(1 << 20, 1.0, FP16, Rounding()) == 4096.0
    ones = torch.ones(1, 3000)
    total = run_float_gemm(ones, ones.t(), FloatMacUnit(accumulator=FP16), backend="numba_cpu")
    assert float(total.values) == 2048.0
    assert growth(1 << 20, 1.0, FP16, Rounding("toward_zero")) == 1 << 20
    assert growth(1 << 30, 1.0, FP16, Rounding("up")) == math.inf


E8M4 = FloatFormat(exponent_bits=8, mantissa_bits=4, bias=127, name="e8m4")
EXACT = Extent(largest=1.0, last=-6, bits=4)


@pytest.mark.parametrize(
    ("mac", "a", "reason"),
    [
        (FloatMacUnit(kahan=True), EXACT, "in sequence"),
        (FloatMacUnit(order="tree"), EXACT, "in sequence"),
        (FloatMacUnit(product=FP16), EXACT, "in sequence"),
        (FloatMacUnit(), Extent(largest=math.inf, last=0, bits=1), "not finite"),
        (FloatMacUnit(), Extent(largest=1.0, last=-21, bits=21), "products of up to 25 bits"),
        (FloatMacUnit(), Extent(largest=1.0, last=-144, bits=4), "worth 2\\^-150"),
        (FloatMacUnit(rounding=Rounding("up", "infinity")), EXACT, "another mode"),
        (FloatMacUnit(accumulator=FP16, outer=FP32, rounding=Rounding("up")), EXACT, "another mode"),
        (FloatMacUnit(), Extent(largest=2.0**126, last=120, bits=4), "may leave float32"),
        (FloatMacUnit(accumulator=FP16), Extent(largest=2.0**101, last=90, bits=4), "no room"),
        (FloatMacUnit(accumulator=E8M4), Extent(largest=2.0**100, last=90, bits=4), "may leave float32"),
        (
            FloatMacUnit(accumulator=FP8_E4M3FN, rounding=Rounding(overflow="infinity")),
            Extent(largest=440.0, last=0, bits=6),
            "is a NaN",
        ),
        (
            FloatMacUnit(accumulator=FP16, chunk=16),
            Extent(largest=5000.0, last=0, bits=6),
            "chunk's sum may be infinite",
        ),
        (
            FloatMacUnit(accumulator=FP16, rounding=Rounding("stochastic", random_bits=12)),
            EXACT,
            "more than 22 bits",
        ),
        (
            FloatMacUnit(accumulator=E8M4, rounding=Rounding("stochastic", random_bits=8)),
            Extent(largest=1.0, last=-126, bits=4),
            "subnormal numbers of float32",
        ),
    ],
)
def test_what_lanes_refuse(mac, a, reason):
    found = plan(mac, a, EXACT, 64)
    assert isinstance(found, str)
    assert re.search(reason, found), found


def test_what_may_overflow_is_checked():
    mac = FloatMacUnit(accumulator=FP16)
    safe, risky = (plan(mac, Extent(largest=x, last=-4, bits=6), EXACT, 64) for x in (900.0, 1100.0))
    assert isinstance(safe, Plan)
    assert isinstance(risky, Plan)
    assert (safe.may_overflow, risky.may_overflow) == (False, True)
    assert plan(FloatMacUnit(accumulator=FP16, outer=FP32), EXACT, EXACT, 64).outer == DIRECT
