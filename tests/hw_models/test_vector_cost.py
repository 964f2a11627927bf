"""Vector work and GEMMs on the vector unit, worked out by hand."""

import pytest

import hw_models
from hw_models.energy import technology_scale
from hw_models.pricing import Pricing
from hw_models.schema.vector import OPERATIONS
from hw_models.vector_cost import stored_elements, vector_cost, vector_level
from lowbit_sim.trace import VECTOR_KINDS, ConvGeometry, VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

FAST_DRAM = ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000")
NO_UNIT = ("random_bits_per_cycle = 8", "random_bits_per_cycle = 0")


def work(kind: str = "quantize", elements: int = 0, **fields: int) -> VectorEvent:
    return VectorEvent(kind=kind, elements=elements, **({"read_bytes": 0, "write_bytes": 0} | fields))


def test_every_kind_of_work_has_a_number_of_operations():
    assert set(OPERATIONS) == set(VECTOR_KINDS)


@pytest.mark.parametrize("kind", VECTOR_KINDS)
def test_operations_of_each_kind_over_the_lanes(kind):
    cost = vector_cost(work(kind, 1000), Pricing(profile=tiny()))
    assert cost.cycles == cost.compute_cycles == 250 * OPERATIONS[kind]
    assert cost.energy["vector"].nominal_pj == pytest.approx(1000 * OPERATIONS[kind] * 2.3)
    assert cost.cycles_by_bound == {"vector": cost.cycles}


def test_a_profile_gives_its_own_number_of_operations():
    profile = tiny(("overlaps_array = false", "overlaps_array = false\noperations = { quantize = 0.3 }"))
    huge = 10**19 + 1
    # Exact although a float has no 10^19 + 1: 0.3 is the float next to it.
    assert vector_cost(work(elements=huge), Pricing(profile=profile)).cycles == -(
        -huge * 5404319552844595 // (4 * 2**54)
    )


def test_more_operations_in_a_cycle():
    profile = tiny(("operations_per_lane_per_cycle = 1", "operations_per_lane_per_cycle = 2"))
    assert vector_cost(work(elements=1001), Pricing(profile=profile)).cycles == 376  # 3003 / 8


def test_random_bits_have_a_unit_of_their_own():
    cost = vector_cost(work(elements=10, random_bits=100), Pricing(profile=tiny()))
    assert cost.cycles == 13  # 100 / 8, more than 30 / 4
    assert cost.energy["random_bits"].nominal_pj == pytest.approx(1.0)


def test_random_bits_without_a_unit_are_vector_work():
    profile = tiny(NO_UNIT)
    report = hw_models.estimate(WorkloadTrace([work("random_bits", random_bits=80)]), profile)
    # 80 bits are three words of 6 operations each, on 4 lanes.
    assert report.cycles == 5
    assert report.energy_pj == pytest.approx(18 * 2.3 * technology_scale(profile))
    assert report.notes == ("random bits are computed by the vector unit: the machine has no unit for them",)


def test_data_come_from_outside_through_the_memory_of_the_left_operand():
    cost = vector_cost(work(elements=1, read_bytes=30, write_bytes=10), Pricing(profile=tiny()))
    assert cost.traffic == {("sram", "vector"): 640, ("dram", "vector"): 320}
    assert cost.energy["sram"].nominal_pj == 320 * (1 + 2)
    assert cost.energy["dram"].nominal_pj == 240 * 10 + 80 * 20
    assert (cost.cycles, cost.bound_by, cost.dram_bytes) == (10, "dram", 40)


def test_without_a_memory_of_the_left_operand_it_is_the_first():
    profile = tiny(('holds = ["lhs", "rhs"]', 'holds = ["rhs"]'))
    assert vector_level(Pricing(profile=profile)) == "sram"
    swapped = tiny(
        ('holds = ["lhs", "rhs"]', 'holds = ["rhs"]'), ('holds = ["result"]', 'holds = ["lhs", "result"]')
    )
    assert vector_level(Pricing(profile=swapped)) == "accumulator"


VECTOR_UNIT_NOTE = "native float GEMMs run on the vector unit: the array has no float mode"


def test_native_float32_runs_on_the_vector_unit_of_an_integer_machine():
    """A GEMM 4 x 8 x 4 in float32 on the tiny machine.

    128 MACs on 4 lanes are 32 cycles; 64 elements read and 16 written at 4 bytes are 320 bytes, at 4 a cycle 80
    cycles, so DRAM decides. 128 MACs at twice 2.3 pJ. The lanes read 128 + 32 elements from the SRAM, and 16 results
    leave through it: 5632 bits read at 1 pJ; 64 elements come in and 16 results: 2560 bits written at 2 pJ. DRAM 2048
    bits read and 512 written at 10 and 20 pJ.
    """
    event = gemm(4, 4, 8, lhs="fp32", rhs="fp32", overflow="float")
    report = hw_models.estimate(WorkloadTrace([event, event]), tiny())
    cost = report.by_layer["fc"]
    assert (cost.macs, cost.cycles, cost.compute_cycles) == (2 * 128, 2 * 80, 2 * 32)
    assert cost.bytes == 2 * 320
    assert cost.traffic == {("sram", "vector"): 2 * (5632 + 2560), ("dram", "vector"): 2 * 2560}
    assert cost.energy["vector"].nominal_pj == pytest.approx(2 * 128 * 4.6)
    assert cost.energy["sram"].nominal_pj == 2 * (5632 + 2 * 2560)
    assert cost.energy["dram"].nominal_pj == 2 * (2048 * 10 + 512 * 20)
    assert set(cost.energy) == {"vector", "sram", "dram"}
    assert report.notes == (VECTOR_UNIT_NOTE,)


def test_compute_on_the_vector_unit_is_rounded_up_over_all_gemms_of_an_event():
    fast = tiny(
        FAST_DRAM,
        ("operations_per_lane_per_cycle = 1", "operations_per_lane_per_cycle = 2"),
    )
    event = gemm(3, 3, 31, lhs="fp16", rhs="fp32", count=3)
    assert hw_models.estimate(WorkloadTrace([event]), fast).total.compute_cycles == 105  # 837 / 8


def conv(stride: int) -> ConvGeometry:
    return ConvGeometry(
        batch=2, in_channels=6, in_height=8, in_width=10, out_channels=4, out_height=8 // stride,
        out_width=10 // stride, kernel_height=3, kernel_width=3, stride=(stride, stride), dilation=(1, 1), groups=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("role", "sizes", "stored"),
    [
        ("output", (160, 2, 27), (2 * 3 * 80, 54)),
        ("grad_input", (160, 3, 18), (2 * 2 * 80, 54)),
        ("grad_weight", (2, 27, 160), (320, 2 * 3 * 80)),
    ],
)
def test_an_unfolded_operand_is_stored_as_the_tensor(role, sizes, stored):
    assert stored_elements(gemm(*sizes, role=role, conv=conv(1))) == stored
    M, N, K = sizes
    assert stored_elements(gemm(*sizes, role=role)) == (M * K, K * N)
