"""Events share a cost if they differ only in where they ran and in what was counted."""

from dataclasses import replace

import pytest

from hw_models.priced_trace import event_cost, priced_trace
from hw_models.pricing import Pricing
from lowbit_sim.trace import ConvGeometry, Operand, VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

CONV = ConvGeometry(
    batch=1, in_channels=2, in_height=8, in_width=8, out_channels=4, out_height=8, out_width=8,
    kernel_height=3, kernel_width=3, stride=(1, 1), dilation=(1, 1), groups=1,
)  # fmt: skip
GEMM = gemm(64, 4, 18, count=2, chunk=9, accumulator_bits=24, conv=CONV)
WORK = VectorEvent(kind="quantize", elements=100, read_bytes=400, write_bytes=100, random_bits=800)


def shared(*events) -> bool:
    first, second = priced_trace(WorkloadTrace(list(events)), Pricing(profile=tiny())).costs
    return first is second


@pytest.mark.parametrize(
    "other", [{"layer": "x"}, {"additions": 9}, {"overflows": None}, {"backend": "x"}, {"kept_bytes": 5}]
)
def test_where_a_gemm_ran_does_not_matter(other):
    assert shared(GEMM, replace(GEMM, **other))


@pytest.mark.parametrize(
    "other",
    [
        {"M": 128}, {"N": 5}, {"K": 36}, {"count": 3}, {"chunk": 6}, {"accumulator_bits": 20}, {"outer_bits": 24},
        {"lhs": Operand(format="int4", bits=4)}, {"rhs": Operand(format="int4", bits=4)}, {"conv": None},
    ],
)  # fmt: skip
def test_what_a_gemm_is_matters(other):
    different = replace(GEMM, **other)
    assert not shared(GEMM, different)
    pricing = Pricing(profile=tiny())
    assert event_cost(different, pricing) != event_cost(GEMM, pricing)


def test_vector_work():
    assert shared(WORK, replace(WORK, layer="x", role="update", clipped=3, kept_bytes=7))
    for other in (
        {"kind": "loss"},
        {"elements": 9},
        {"read_bytes": 1},
        {"write_bytes": 1},
        {"random_bits": 0},
    ):
        assert not shared(WORK, replace(WORK, **other))


def test_shared_costs_are_those_of_each_event_alone():
    pricing = Pricing(profile=tiny())
    events = [GEMM, WORK, replace(GEMM, layer="b"), gemm(), WORK]
    together = priced_trace(WorkloadTrace(list(events)), pricing).costs
    assert list(together) == [event_cost(event, Pricing(profile=tiny())) for event in events]


def test_bits_at_a_memory_are_summed_over_operands():
    pricing = Pricing(profile=tiny())
    bits = {("sram", "lhs"): 100, ("sram", "rhs"): 100, ("dram", "lhs"): 33}
    assert pricing.memory_cycles(bits) == {"sram": 2, "dram": 2}  # 128 and 32 bits in a cycle


def test_energies_of_multiply_accumulates_are_told_apart_by_their_widths():
    pricing = Pricing(profile=tiny())
    int8, int4 = pricing.profile.array.modes
    found = [
        pricing.mac_energy(int8, 32, 32),
        pricing.mac_energy(int4, 32, 32),
        pricing.mac_energy(int8, 16, 24),
    ]
    assert [e.multiply.nominal_pj for e in found] == pytest.approx([0.2, 0.05, 0.2])
    assert [e.add.nominal_pj for e in found] == pytest.approx([0.1, 0.1, 0.05])
    assert [e.outer_add.nominal_pj for e in found] == pytest.approx([0.1, 0.1, 0.075])
