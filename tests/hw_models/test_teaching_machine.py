"""The figures that the head of `teaching_4x4.toml` works out by hand."""

import pytest

import hw_models
from lowbit_sim.trace import WorkloadTrace
from tests.hw_models.machines import gemm

PROFILE = hw_models.load("teaching_4x4")


def test_a_gemm_of_one_fold():
    total = hw_models.estimate(WorkloadTrace([gemm(4, 4, 4)]), PROFILE).total
    assert (total.cycles, total.compute_cycles, total.dram_bytes) == (14, 14, 96)
    energy = {name: part.nominal_pj for name, part in total.energy.items() if part.nominal_pj}
    assert energy == pytest.approx({"multiply": 64, "add": 64, "operands": 512, "sums": 1024, "dram": 7680})
    assert total.energy_low_pj == total.energy_high_pj == pytest.approx(9344)


def test_packed_products_halve_the_reduction():
    total = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8, lhs="int4", rhs="int4")]), PROFILE).total
    assert total.compute_cycles == 14
    # 128 multiplies of 4 bits, each a quarter of 8 bits' 1 pJ.
    assert total.energy["multiply"].nominal_pj == pytest.approx(32)
