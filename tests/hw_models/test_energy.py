"""Energy by width, against the published figures."""

import math

import pytest

import hw_models
from hw_models.energy import (
    EnergySplit,
    add_pj,
    gemm_arithmetic_pj,
    mac_pj,
    multiply_pj,
    static_pj,
    technology_scale,
)
from tests.hw_models.machines import gemm, tiny


def _mode(profile: hw_models.HardwareProfile, bits: int):
    return next(m for m in profile.array.modes if m.operand_bits == bits)


@pytest.mark.parametrize(
    ("bits", "accumulator_bits", "pj"), [(8, 32, 0.30), (4, 32, 0.15), (4, 16, 0.10), (8, 16, 0.25)]
)
def test_mac_with_horowitz_figures(bits, accumulator_bits, pj):
    profile = tiny()
    assert mac_pj(profile, _mode(profile, bits), accumulator_bits) == pytest.approx(pj, rel=1e-15)


def test_int4_saves_a_factor_of_two_with_a_wide_accumulator_and_three_with_a_narrow_one():
    profile = tiny()
    int8 = mac_pj(profile, _mode(profile, 8), 32)
    assert int8 / mac_pj(profile, _mode(profile, 4), 32) == pytest.approx(2)
    assert int8 / mac_pj(profile, _mode(profile, 4), 16) == pytest.approx(3)


def test_multiplication_grows_with_the_square_and_addition_linearly():
    assert multiply_pj(16, reference_pj=0.2, reference_bits=8) == 0.8
    assert add_pj(16, reference_pj=0.1, reference_bits=32) == 0.05


def test_logic_scales_with_node_and_voltage_squared():
    profile = tiny(('description = "a 4 x 4 array"\nnode_nm = 45.0\nvoltage_v = 0.9',
                    'description = "small"\nnode_nm = 22.5\nvoltage_v = 0.45'))  # fmt: skip
    assert technology_scale(profile) == 0.125
    assert mac_pj(profile, _mode(profile, 8), 32) == pytest.approx(0.3 / 8)


def test_each_chunk_is_an_addition_at_the_outer_width():
    profile = tiny()
    event = gemm(2, 3, 10, accumulator_bits=16, chunk=4, outer_bits=24, count=5)
    inner = 5 * 2 * 3 * 10 * (0.2 + 0.05)
    outer = 5 * 2 * 3 * 3 * 0.1 * 24 / 32  # 10 products are 3 chunks of 4
    assert gemm_arithmetic_pj(event, profile, _mode(profile, 8)) == pytest.approx(inner + outer)


def test_without_chunks_there_is_no_outer_addition():
    profile = tiny()
    assert gemm_arithmetic_pj(gemm(2, 3, 10), profile, _mode(profile, 8)) == pytest.approx(60 * 0.3)


def test_an_outer_accumulator_of_another_width_takes_one_addition_for_each_result():
    profile = tiny()
    event = gemm(2, 3, 10, accumulator_bits=16, outer_bits=32)
    assert gemm_arithmetic_pj(event, profile, _mode(profile, 8)) == pytest.approx(60 * 0.25 + 6 * 0.1)


def test_static_power_times_time():
    # 1 nW for 45 of 1000 cycles a second is 45 pJ.
    profile = tiny(("static_power_w = 0.0", "static_power_w = 1e-9"))
    assert static_pj(profile, 45) == pytest.approx(45)


def test_the_total_is_the_sum_of_the_components():
    split = EnergySplit(multiply_add_pj=0.1, sram_pj=0.2, dram_pj=0.3, vector_pj=0.4, static_pj=0.5)
    assert split.total_pj == math.fsum([0.1, 0.2, 0.3, 0.4, 0.5])
