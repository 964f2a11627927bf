"""Block formats: the table of OCP Microscaling Formats 1.0, what is refused, the shared exponents."""

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.block_formats import block_floating_point
from lowbit_sim.numerics.formats import BlockFormat, CodebookFormat, ExponentFormat, FixedFormat, IntFormat
from lowbit_sim.numerics.reference_blocks import element_exponent, shared_exponent

# Largest exponent and largest value of the elements, OCP Microscaling Formats 1.0, tables 2 to 6.
MX = [
    (catalog.MXFP8_E5M2, 15, 57344.0),
    (catalog.MXFP8_E4M3, 8, 448.0),
    (catalog.MXFP6_E3M2, 4, 28.0),
    (catalog.MXFP6_E2M3, 2, 7.5),
    (catalog.MXFP4, 2, 6.0),
    (catalog.MXINT8, 0, 127 / 64),
]


@pytest.mark.parametrize(("fmt", "emax", "largest"), MX, ids=str)
def test_mx_formats(fmt: BlockFormat, emax: int, largest: float) -> None:
    assert (fmt.block, fmt.scale, fmt.rule, fmt.tensor_scale) == (32, ExponentFormat(), "floor", False)
    assert (element_exponent(fmt.element), fmt.max_value) == (emax, largest)
    assert fmt.scale_bits_per_element == 0.25


def test_nvfp4() -> None:
    fmt = catalog.NVFP4
    assert (fmt.block, fmt.scale, fmt.element, fmt.tensor_scale) == (
        16,
        catalog.FP8_E4M3FN,
        catalog.FP4_E2M1,
        True,
    )
    assert (fmt.bits, fmt.unit, fmt.scale_bits_per_element) == (4, 0.5, 0.5)


def test_block_floating_point() -> None:
    fmt = block_floating_point(8, 16)
    assert (
        fmt.element == FixedFormat(word_length=8, fraction_length=6, symmetric=True) == catalog.MXINT8.element
    )
    assert (fmt.block, fmt.dim, str(fmt)) == (16, None, "bfp<8,16>")
    assert str(block_floating_point(6, dim=1)) == "bfp<6,dim=1>"
    assert block_floating_point(6).scale_bits_per_element == 0.0


def test_an_unnamed_block_format_describes_itself() -> None:
    fmt = BlockFormat(element=IntFormat(bits=4), block=8, rule="ceil")
    assert str(fmt) == "block<int4,e8m0,block=8,ceil>"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"element": CodebookFormat(values=(0.0, 1.0))}, TypeError, "a block's element is"),
        ({"element": catalog.INT4, "scale": catalog.INT8}, TypeError, "a block's scale is"),
        ({"element": catalog.UINT4}, ValueError, "signed, got uint4"),
        ({"element": catalog.INT4, "block": 1}, ValueError, "block=1"),
        ({"element": catalog.INT4, "block": -2}, ValueError, "block=-2"),
        ({"element": catalog.INT4, "rule": "round"}, ValueError, "unknown scale rule 'round'"),
        ({"element": catalog.INT4, "dim": 0}, ValueError, "dim=0, block=32"),
        ({"element": catalog.INT4, "dim": -1, "block": 0}, ValueError, "dim=-1"),
        ({"element": catalog.INT4, "tensor_scale": True}, ValueError, "tensor_scale=False"),
        ({"element": catalog.INT4, "scale": catalog.FP8_E4M3FN, "rule": "even"}, ValueError, "rule='even'"),
    ],
)
def test_impossible_block_format(arguments: dict, error, message: str) -> None:
    with pytest.raises(error, match=message):
        BlockFormat(**arguments)


@pytest.mark.parametrize(
    ("absmax", "fmt", "floor", "even", "ceil"),
    [
        (6.0, catalog.MXFP4, 0, 0, 0),
        (6.5, catalog.MXFP4, 0, 0, 1),
        (7.0, catalog.MXFP4, 0, 1, 1),  # 1.75 is a tie of one mantissa bit: to 2
        (6.99, catalog.MXFP4, 0, 0, 1),
        (8.0, catalog.MXFP4, 1, 1, 1),
        (4.0, catalog.MXFP4, 0, 0, 0),
        (3.0, catalog.MXFP4, -1, -1, -1),
        (448.0, catalog.MXFP8_E4M3, 0, 0, 0),
        (479.0, catalog.MXFP8_E4M3, 0, 0, 1),
        (500.0, catalog.MXFP8_E4M3, 0, 1, 1),
        (1.0, catalog.MXINT8, 0, 0, 0),
        (1.99, catalog.MXINT8, 0, 0, 1),
        (1.995, catalog.MXINT8, 0, 1, 1),
        (0.0, catalog.MXFP4, 0, 0, 0),
        (2.0**-149, catalog.MXFP4, -127, -127, -127),
        (2.0**127, catalog.MXINT8, 127, 127, 127),
        (3.4e38, catalog.MXINT8, 127, 127, 127),
    ],
)
def test_shared_exponents_by_hand(absmax: float, fmt: BlockFormat, floor: int, even: int, ceil: int) -> None:
    assert [shared_exponent(absmax, fmt.element, rule) for rule in ("floor", "even", "ceil")] == [
        floor,
        even,
        ceil,
    ]


@given(
    mantissa=st.integers(1, (1 << 24) - 1),
    exponent=st.integers(-140, 100),
    fmt=st.sampled_from([m[0] for m in MX]),
)
def test_ceil_never_saturates_and_the_others_are_at_most_one_less(mantissa, exponent, fmt) -> None:
    absmax = math.ldexp(mantissa, exponent)
    floor, even, ceil = (shared_exponent(absmax, fmt.element, rule) for rule in ("floor", "even", "ceil"))
    assert floor <= even <= ceil <= floor + 1
    assert Fraction(absmax) <= Fraction(fmt.max_value) * Fraction(2) ** ceil or ceil == 127
    assert Fraction(absmax) > Fraction(fmt.max_value) * Fraction(2) ** (ceil - 1) or ceil == -127
    assert Fraction(absmax) < Fraction(2) ** (floor + element_exponent(fmt.element) + 1)


@given(pattern=st.integers(1 << 23, (255 << 23) - 1), fmt=st.sampled_from([m[0] for m in MX]))
def test_even_rule_is_the_carry_of_float32_bits(pattern: int, fmt: BlockFormat) -> None:
    """How torchao and microxcaling find it: half a unit of the element's mantissa is added to the bit pattern."""
    mantissa_bits = {
        "mxint8": 6,
        "mxfp8_e4m3": 3,
        "mxfp8_e5m2": 2,
        "mxfp6_e3m2": 2,
        "mxfp6_e2m3": 3,
        "mxfp4": 1,
    }
    carried = pattern + (1 << (23 - mantissa_bits[fmt.name] - 1))
    exponent = (carried >> 23) - 127 - element_exponent(fmt.element)
    absmax = float(np.uint32(pattern).view(np.float32))
    assert shared_exponent(absmax, fmt.element, "even") == min(max(exponent, -127), 127)


@pytest.mark.parametrize("absmax", [-1.0, math.inf, math.nan])
def test_a_largest_magnitude_that_is_none(absmax: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        shared_exponent(absmax, catalog.FP4_E2M1, "floor")


def test_an_unknown_rule() -> None:
    with pytest.raises(ValueError, match="unknown scale rule 'round': known are ceil, even, floor"):
        shared_exponent(1.0, catalog.FP4_E2M1, "round")
