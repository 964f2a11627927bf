"""The energy of a GEMM's arithmetic, and the parts of its cost."""

from dataclasses import replace

import pytest

from hw_models.energy import by_width
from hw_models.gemm_cost import arithmetic_energy, gemm_cost, outer_additions
from hw_models.pricing import Pricing
from tests.hw_models.machines import FLOAT_MODE, gemm, tiny
from tests.hw_models.test_operands import LOG_MODE


def arithmetic(event, *changes) -> dict[str, float]:
    profile = tiny(*changes)
    mode = gemm_cost(event, profile).mode
    assert mode is not None
    energy = arithmetic_energy(event, Pricing(profile=profile), mode, event.macs)
    return {name: e.nominal_pj for name, e in energy.items()}


def test_each_chunk_is_an_addition_at_the_outer_width():
    event = gemm(2, 3, 10, accumulator_bits=16, chunk=4, outer_bits=24, count=5)
    assert outer_additions(event) == 5 * 2 * 3 * 3  # 10 products are 3 chunks of 4
    found = arithmetic(event)
    assert found["multiply"] == pytest.approx(300 * 0.2)
    assert found["add"] == pytest.approx(300 * 0.05 + 90 * 0.1 * 24 / 32)


def test_without_chunks_there_is_no_outer_addition():
    assert outer_additions(gemm(2, 3, 10)) == 0
    assert arithmetic(gemm(2, 3, 10))["add"] == pytest.approx(60 * 0.1)


def test_an_outer_accumulator_of_another_width_takes_one_addition_for_each_result():
    event = gemm(2, 3, 10, accumulator_bits=16, outer_bits=32)
    assert arithmetic(event)["add"] == pytest.approx(60 * 0.05 + 6 * 0.1)


def test_a_narrower_accumulator_that_ran_costs_less():
    wide, narrow = gemm_cost(gemm(), tiny()), gemm_cost(gemm(accumulator_bits=16, outer_bits=16), tiny())
    assert narrow.cost.energy["add"].nominal_pj == pytest.approx(wide.cost.energy["add"].nominal_pj / 2)
    assert narrow.cost.energy["accumulator"].nominal_pj < wide.cost.energy["accumulator"].nominal_pj


def test_floats_add_with_their_modes_own_figure_inside_and_outside():
    event = gemm(2, 3, 10, lhs="fp32", rhs="fp32", overflow="float", chunk=5)
    found = arithmetic(event, FLOAT_MODE)
    assert found["multiply"] == pytest.approx(60 * 3.7)
    assert found["add"] == pytest.approx((60 + 12) * 0.9)


def test_a_log_mode_shifts_at_its_own_figures():
    found = arithmetic(gemm(2, 3, 10, lhs="log4_radix4", rhs="int4"), LOG_MODE)
    assert (found["multiply"], found["add"]) == pytest.approx((60 * 3.7, 60 * 0.9))


def test_each_operands_scales_are_applied_once_a_block():
    blocks = arithmetic(gemm(2, 3, 64, lhs="mxint8", rhs="mxint8", chunk=32))
    plain = arithmetic(gemm(2, 3, 64, chunk=32))
    assert blocks["multiply"] == plain["multiply"]
    more = 2 * (2 * 3 * 2) * by_width(tiny().energy.add, 8, power=1).nominal_pj
    assert blocks["add"] == pytest.approx(plain["add"] + more)


def test_compensated_sums_take_four_additions():
    plain = gemm(2, 3, 10, lhs="fp32", rhs="fp32", overflow="float", chunk=5)
    found = arithmetic(replace(plain, term_additions=(4, 1)), FLOAT_MODE)
    assert found["add"] == pytest.approx((4 * 60 + 12) * 0.9)
    found = arithmetic(replace(plain, term_additions=(4, 4)), FLOAT_MODE)
    assert found["add"] == pytest.approx(4 * (60 + 12) * 0.9)


def test_registers_take_over_an_operand_and_the_sum():
    registers = ("register_pj_per_bit = 0.0", "register_pj_per_bit = 0.25")
    assert arithmetic(gemm(2, 3, 10), registers)["registers"] == 60 * (8 + 32) * 0.25


def test_skipped_zeros_take_no_multiplications():
    from lowbit_sim.trace import ConvGeometry

    strided = ConvGeometry(
        batch=1, in_channels=4, in_height=8, in_width=8, out_channels=4, out_height=4, out_width=4,
        kernel_height=2, kernel_width=2, stride=(2, 2), dilation=(1, 1), groups=1,
    )  # fmt: skip
    event = gemm(64, 4, 16, role="grad_input", conv=strided)
    skips = ('dataflow = "ws"', 'dataflow = "ws"\nskips_zeros = true')
    whole, less = gemm_cost(event, tiny()).cost, gemm_cost(event, tiny(skips)).cost
    assert (whole.macs, less.macs) == (4096, 1024)
    assert less.energy["multiply"].nominal_pj == pytest.approx(whole.energy["multiply"].nominal_pj / 4)
    assert less.cycles <= whole.cycles


def test_the_cost_is_that_of_the_mapping():
    found = gemm_cost(gemm(40, 50, 60), tiny(), "energy")
    assert found.mapping is not None
    assert (found.cost.cycles, found.cost.compute_cycles) == (
        found.mapping.cycles,
        found.mapping.compute_cycles,
    )
    assert found.cost.bound_by == found.mapping.bound_by
    assert found.cost.dram_bytes == found.mapping.traffic.dram_bytes
    for level in ("sram", "accumulator", "dram"):
        assert found.cost.level_bits(level) == found.mapping.traffic.bits(level)
