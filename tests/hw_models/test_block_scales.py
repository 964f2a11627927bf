"""What the scales of blocks take, by hand."""

from dataclasses import replace
from fractions import Fraction

import pytest

from hw_models.block_scales import scale_share, scaling_energy
from lowbit_sim.trace import Operand
from tests.hw_models.machines import gemm, tiny


@pytest.mark.parametrize(
    ("operand", "share"),
    [
        (Operand(format="mxfp4", bits=4, block=32, scale="e8m0"), Fraction(1, 4)),
        (Operand(format="nvfp4", bits=4, block=16, scale="fp8_e4m3fn"), Fraction(1, 2)),
        (Operand(format="int8", bits=8, block=3, scale="fp32"), Fraction(32, 3)),
        (Operand(format="int8", bits=8), 0),
    ],
)
def test_share_of_an_element(operand: Operand, share: Fraction) -> None:
    assert scale_share(operand) == share


def test_a_power_of_two_is_added_and_any_other_scale_is_a_factor() -> None:
    # 2 x 3 results of 5 GEMMs over K = 40: two blocks of 32, and three of 16.
    event = gemm(2, 3, 40, lhs="mxfp4", rhs="nvfp4", count=5)
    multiply, add = scaling_energy(event, tiny())
    assert add.nominal_pj == pytest.approx(5 * 6 * 2 * 0.1 * 8 / 32)
    assert multiply.nominal_pj == pytest.approx(5 * 6 * 3 * 0.2)


def test_without_blocks_there_is_nothing_to_apply() -> None:
    multiply, add = scaling_energy(gemm(2, 3, 40), tiny())
    assert multiply.high_pj == add.high_pj == 0


def test_a_compensated_sum_on_the_vector_unit_takes_four_times_as_long() -> None:
    from hw_models.gemm_cost import gemm_cost

    event = gemm(2, 3, 40, lhs="fp32", rhs="fp32", overflow="float")
    plain, four = (gemm_cost(replace(event, term_additions=(n, n)), tiny()).cost for n in (1, 4))
    assert four.compute_cycles == 4 * plain.compute_cycles
    assert four.energy["vector"].nominal_pj == pytest.approx(2.5 * plain.energy["vector"].nominal_pj)
