"""Area of the arrays by hand, and its growth."""

import pytest

from hw_models.area import FLOAT_ADDER, FLOAT_MULTIPLIER, accumulator_bits, array_area_mm2, significand_bits
from tests.hw_models.machines import FLOAT_MODE, tiny
from tests.hw_models.test_operands import LOG_MODE

AREA = """
[area]
source = "Horowitz, ISSCC 2014"
node_nm = 45.0
multiply_um2 = 282.0
multiply_bits = 8
add_um2 = 137.0
add_bits = 32
register_um2_per_bit = 2.0
"""
WITH_AREA = ("static_power_w = 0.0\n", "static_power_w = 0.0\n" + AREA)
REGISTERS = 2.0 * (2 * 8 + 32)


def area_um2(*changes: tuple[str, str]) -> float:
    found = array_area_mm2(tiny(WITH_AREA, *changes))
    assert found is not None
    return 1e6 * found


def test_sixteen_elements_by_hand():
    assert area_um2() == pytest.approx(16 * (282 + 137 + REGISTERS))


def test_without_figures_there_is_no_area():
    assert array_area_mm2(tiny()) is None


def test_the_node_goes_with_the_square():
    small = ('description = "a 4 x 4 array"\nnode_nm = 45.0', 'description = "a 4 x 4 array"\nnode_nm = 22.5')
    assert area_um2(small) == pytest.approx(area_um2() / 4)


def test_more_elements():
    assert area_um2(("rows = 4", "rows = 12"), ("arrays = 1", "arrays = 2")) == pytest.approx(6 * area_um2())


def test_several_small_multipliers_may_be_larger_than_one_wide():
    packed = ("operand_bits = 4\nmacs_per_pe_per_cycle = 2", "operand_bits = 4\nmacs_per_pe_per_cycle = 8")
    # Eight 4-bit multipliers take twice an 8-bit one; eight pairs of 4 bits are 64 of registers.
    assert area_um2(packed) == pytest.approx(16 * (2 * 282 + 137 + 2.0 * (64 + 32)))


def test_the_widest_accumulator_decides():
    profile = tiny(("accumulator_bits = 32", "accumulator_bits = 16\nouter_bits = 24"))
    assert accumulator_bits(profile) == 24


def test_the_float_factors_are_the_ratios_of_the_cited_areas():
    assert pytest.approx(7700 / (282 * (24 / 8) ** 2), rel=0.02) == FLOAT_MULTIPLIER
    assert pytest.approx(4184 / 137, rel=0.01) == FLOAT_ADDER


def test_a_float_mode_multiplies_significands():
    element = 3.0 * 282 * 9 + 30.5 * 137 + 2.0 * (2 * 32 + 32)
    assert area_um2(FLOAT_MODE) == pytest.approx(16 * element)
    assert [significand_bits(bits) for bits in (4, 8, 12, 16, 19, 32, 64)] == [2, 4, 11, 11, 24, 24, 53]


def test_a_log_mode_needs_no_larger_element():
    assert area_um2(LOG_MODE) == area_um2()
