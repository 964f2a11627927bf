"""The price of a trace: a trace worked out by hand, and what must hold of every trace."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.energy import technology_scale
from hw_models.estimate import event_cost
from hw_models.operands import gemm_modes
from lowbit_sim.trace import ROLES, VECTOR_KINDS, GemmEvent, Operand, VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny
from tests.hw_models.test_operands import FLOAT_MODE

QUANTIZE = VectorEvent(
    kind="quantize", elements=10, read_bytes=40, write_bytes=10, random_bits=80, layer="fc"
)


def test_a_trace_by_hand():
    """A GEMM 4 x 8 x 4 and a quantization on the tiny machine.

    GEMM: two folds of 2 4 + 4 + 4 - 2 = 14 cycles compute; 64 + 64 bytes at 4 a cycle are 32 cycles, so DRAM
    decides. 128 MACs of 0.3 pJ; SRAM 512 bits read and written at 1 and 2 pJ; accumulator memory 1024 bits read
    and written at 0.5 and 0.25 pJ; DRAM 512 bits read and written at 10 and 20 pJ.

    Quantization: 50 bytes at 4 a cycle are 13 cycles, more than 3 for the lanes and 10 for the random bits. 10
    elements of 4.6 pJ and 80 bits of 0.01 pJ; SRAM 400 bits in and out; DRAM 320 bits read, 80 written.
    """
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8), QUANTIZE]), tiny())
    assert report.cycles == 32 + 13
    assert report.total.compute_cycles == 28 + 10
    assert report.seconds == 0.045
    assert report.bytes == 128 + 50
    assert report.macs == 128
    assert report.total.sram_bytes == 128 + 256 + 100
    assert report.energy.multiply_add_pj == pytest.approx(38.4)
    assert report.energy.sram_pj == pytest.approx((512 + 1024 + 512 + 256) + (400 + 800))
    assert report.energy.dram_pj == pytest.approx((5120 + 10240) + (3200 + 1600))
    assert report.energy.vector_pj == pytest.approx(46.8)
    assert report.energy.static_pj == 0
    assert report.energy_pj == pytest.approx(23749.2, abs=1e-6)
    assert report.utilization == pytest.approx(8 / 45)
    assert report.by_role["output"].cycles == 32
    assert report.by_role["overhead"].cycles == 13
    assert list(report.by_role) == list(ROLES)
    assert list(report.by_layer) == ["fc"]


def test_an_int4_mode_shortens_the_reduction():
    # K = 8 packs into 4 words of 2 products: one fold where INT8 takes two.
    fast = tiny(("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000"))
    int8 = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8)]), fast)
    int4 = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8, lhs="int4", rhs="int4")]), fast)
    assert (int8.cycles, int4.cycles) == (28, 14)
    assert int4.utilization == pytest.approx(128 / 32 / 14)


def test_sram_bandwidth_limits():
    slow = tiny(
        ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000"),
        ("bandwidth_bytes_per_cycle = 16\n", "bandwidth_bytes_per_cycle = 1\n"),
    )
    assert hw_models.estimate(WorkloadTrace([gemm(4, 4, 8)]), slow).cycles == 128


def test_accumulator_bandwidth_limits():
    slow = tiny(
        ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000"),
        ("bandwidth_bytes_per_cycle = 32\n", "bandwidth_bytes_per_cycle = 3\n"),
    )
    assert hw_models.estimate(WorkloadTrace([gemm(4, 4, 8)]), slow).cycles == 86  # 256 / 3


def test_native_float32_is_priced_by_its_own_mode():
    event = gemm(4, 4, 4, lhs="fp32", rhs="fp32")
    report = hw_models.estimate(WorkloadTrace([event]), tiny(FLOAT_MODE))
    assert report.energy.multiply_add_pj == pytest.approx(64 * (3.7 + 0.9))
    assert report.notes == (
        "output: input ran as fp32; the machine has int8",
        "output: weight ran as fp32; the machine has int8",
    )


VECTOR_UNIT_NOTE = "native float GEMMs run on the vector unit: the array has no float mode"


def test_native_float32_runs_on_the_vector_unit_of_an_integer_machine():
    """A GEMM 4 x 8 x 4 in float32 on the tiny machine.

    128 MACs on 4 lanes are 32 cycles; 64 elements read and 16 written at 4 bytes are 320 bytes, at 4 a cycle 80
    cycles, so DRAM decides. 128 elements of vector work at 4.6 pJ; each bit is written to the SRAM at 2 pJ and
    read from it at 1 pJ; DRAM 2048 bits read and 512 written at 10 and 20 pJ.
    """
    event = gemm(4, 4, 8, lhs="fp32", rhs="fp32", overflow="float")
    report = hw_models.estimate(WorkloadTrace([event, event]), tiny())
    cost = report.by_layer["fc"]
    assert (cost.macs, cost.cycles, cost.compute_cycles) == (2 * 128, 2 * 80, 2 * 32)
    assert (cost.bytes, cost.sram_bytes) == (2 * 320, 2 * 640)
    assert cost.energy.vector_pj == pytest.approx(2 * 128 * 4.6)
    assert cost.energy.multiply_add_pj == 0
    assert cost.energy.sram_pj == 2 * 2560 * 3
    assert cost.energy.dram_pj == 2 * (2048 * 10 + 512 * 20)
    assert report.notes == (VECTOR_UNIT_NOTE,)


def test_compute_on_the_vector_unit_is_rounded_up_over_all_gemms_of_an_event():
    fast = tiny(
        ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000"),
        ("elements_per_lane_per_cycle = 1", "elements_per_lane_per_cycle = 2"),
    )
    event = gemm(3, 3, 31, lhs="fp16", rhs="fp32", count=3)
    assert hw_models.estimate(WorkloadTrace([event]), fast).total.compute_cycles == 105  # 837 / 8


def test_work_of_the_vector_unit_is_no_use_of_the_array():
    fast = tiny(("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000"))
    native = gemm(4, 4, 8, lhs="fp32", rhs="fp32")
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8), native]), fast)
    # The array's 128 MACs take 8 cycles at its peak; the vector unit's 40 (640 bytes of SRAM) are waiting.
    assert (report.by_role["output"].cycles, report.total.ideal_cycles) == (28 + 40, 8)
    assert report.utilization == pytest.approx(8 / 68)


def test_the_note_names_the_width_that_a_machine_with_float_modes_lacks():
    narrow = (FLOAT_MODE[0], FLOAT_MODE[1].replace("operand_bits = 32", "operand_bits = 16"))
    report = hw_models.estimate(WorkloadTrace([gemm(lhs="fp32", rhs="fp32")]), tiny(narrow))
    assert report.notes == (VECTOR_UNIT_NOTE + " of 32 bits or more",)


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_every_machine_prices_a_native_layer_between_quantized_ones(name):
    profile = hw_models.load(name)
    native = gemm(64, 64, 64, lhs="fp32", rhs="fp32", overflow="float", layer="first")
    quantized = gemm(
        64, 64, 64, lhs=profile.arithmetic.input_format, rhs=profile.arithmetic.weight_format, layer="second"
    )
    report = hw_models.estimate(WorkloadTrace([native, quantized]), profile)
    assert report.by_layer["first"].cycles > report.by_layer["second"].cycles
    assert report.by_layer["first"].energy_pj > report.by_layer["second"].energy_pj
    assert report.notes.count(VECTOR_UNIT_NOTE) == 1


def test_random_bits_without_a_unit_are_vector_work():
    profile = tiny(("random_bits_per_cycle = 8", "random_bits_per_cycle = 0"))
    bits = VectorEvent(kind="random_bits", elements=0, read_bytes=0, write_bytes=0, random_bits=80)
    report = hw_models.estimate(WorkloadTrace([bits]), profile)
    # 80 bits are three words of 6 elements each, on 4 lanes.
    assert report.cycles == 5
    assert report.energy_pj == pytest.approx(
        18 * profile.energy.vector_element_pj * technology_scale(profile)
    )
    assert report.notes == ("random bits are computed by the vector unit: the machine has no unit for them",)
    assert hw_models.estimate(WorkloadTrace([bits]), tiny()).cycles == 10


def test_an_empty_trace_costs_nothing():
    report = hw_models.estimate(WorkloadTrace(), tiny())
    assert (report.cycles, report.bytes, report.energy_pj, report.utilization) == (0, 0, 0, 0)


def test_a_gemm_of_size_zero_costs_nothing():
    events = [gemm(4, 0, 8), gemm(4, 4, 0, chunk=2), gemm(4, 4, 0, lhs="fp32", rhs="fp32")]
    report = hw_models.estimate(WorkloadTrace(events), tiny())
    assert (report.cycles, report.bytes, report.energy_pj) == (0, 0, 0)


def test_numerics_that_match_the_machine_leave_no_note():
    events = [gemm(), gemm(lhs="int4", rhs="int8", role="grad_input"), gemm(lhs="int4", role="grad_weight")]
    assert hw_models.estimate(WorkloadTrace(events), tiny()).notes == ()


def test_numerics_that_differ_are_noted_once():
    event = gemm(lhs="int2", rhs="int8", accumulator_bits=16, overflow="saturate", chunk=64)
    assert hw_models.estimate(WorkloadTrace([event, event]), tiny()).notes == (
        "output: input ran as int2; the machine has int8",
        "output: ran with a 16-bit saturating accumulator in chunks of 64 into 32 bits; the machine has a 32-bit "
        "wrapping accumulator",
        "2-bit operands run and are stored in 4 bits: the machine has no narrower mode",
    )


def test_one_sum_passed_to_an_outer_accumulator_is_not_called_a_chunk():
    event = gemm(accumulator_bits=16, outer_bits=24)
    assert hw_models.estimate(WorkloadTrace([event]), tiny()).notes == (
        "output: ran with a 16-bit wrapping accumulator whose one sum passes to an outer accumulator of 24 bits; "
        "the machine has a 32-bit wrapping accumulator",
    )


def test_an_unknown_overflow_is_named():
    with pytest.raises(
        ValueError, match="layer 'fc', role output: unknown accumulator overflow 'wrp'"
    ) as error:
        hw_models.estimate(WorkloadTrace([gemm(overflow="wrp")]), tiny())
    assert str(error.value).endswith(
        "known are float, saturate, saturate_symmetric, wrap; did you mean 'wrap'?"
    )


def test_a_narrower_accumulator_that_ran_costs_less():
    wide = hw_models.estimate(WorkloadTrace([gemm()]), tiny())
    narrow = hw_models.estimate(WorkloadTrace([gemm(accumulator_bits=16, outer_bits=16)]), tiny())
    assert narrow.energy.multiply_add_pj == pytest.approx(wide.energy.multiply_add_pj - 128 * 0.05)
    assert narrow.energy.sram_pj < wide.energy.sram_pj


def test_the_report_is_json():
    report = hw_models.estimate(WorkloadTrace([gemm(), QUANTIZE]), tiny())
    data = json.loads(json.dumps(report.to_dict()))
    assert data["machine"] == "tiny"
    assert data["cycles"] == report.cycles
    assert data["energy_pj"] == report.energy_pj
    assert sum(data["energy_by_component"].values()) == pytest.approx(report.energy_pj)
    assert list(data["by_role"]) == list(ROLES)
    assert data["by_layer"]["fc"]["cycles"] == report.cycles


sizes = st.integers(0, 70)
integers = st.builds(lambda bits: Operand(format=f"int{bits}", bits=bits), st.integers(2, 8))
floats = st.sampled_from([Operand(format=name, bits=bits) for name, bits in (("fp32", 32), ("fp16", 16))])


def _gemm(operands: tuple[Operand, Operand], **fields: Any) -> GemmEvent:
    return GemmEvent(lhs=operands[0], rhs=operands[1], **fields)


gemms = st.builds(
    _gemm,
    st.tuples(integers, integers) | st.tuples(floats, floats),
    role=st.sampled_from(ROLES),
    M=sizes,
    N=sizes,
    K=sizes,
    accumulator_bits=st.integers(8, 64),
    overflow=st.sampled_from(["wrap", "saturate"]),
    chunk=st.integers(0, 9),
    outer_bits=st.integers(8, 64),
    layer=st.sampled_from(["", "a", "b"]),
    count=st.integers(0, 3),
)
vectors = st.builds(
    VectorEvent,
    kind=st.sampled_from(VECTOR_KINDS),
    elements=st.integers(0, 999),
    read_bytes=st.integers(0, 999),
    write_bytes=st.integers(0, 999),
    role=st.sampled_from(ROLES),
    layer=st.sampled_from(["", "a", "b"]),
    random_bits=st.integers(0, 999),
)
traces = st.builds(WorkloadTrace, st.lists(gemms | vectors, max_size=6))
machines = st.builds(
    lambda dataflow, arrays, bytes_per_second, modes: tiny(
        *modes,
        ('dataflow = "ws"', f'dataflow = "{dataflow}"'),
        ("arrays = 1", f"arrays = {arrays}"),
        ("bandwidth_bytes_per_second = 4000", f"bandwidth_bytes_per_second = {bytes_per_second}"),
    ),
    st.sampled_from(["ws", "os", "is"]),
    st.integers(1, 3),
    st.integers(1, 200_000),
    st.sampled_from([(), (FLOAT_MODE,)]),
)


@given(traces, machines)
def test_parts_sum_to_the_total(trace, machine):
    report = hw_models.estimate(trace, machine)
    for parts in (report.by_role.values(), report.by_layer.values()):
        for name in ("cycles", "compute_cycles", "macs", "bytes", "sram_bytes"):
            assert sum(getattr(part, name) for part in parts) == getattr(report.total, name)
        assert math.isclose(math.fsum(p.energy_pj for p in parts), report.energy_pj, rel_tol=1e-12)
        assert math.isclose(
            math.fsum(p.ideal_cycles for p in parts), report.total.ideal_cycles, rel_tol=1e-12
        )
    assert report.macs == trace.macs


@given(traces, machines)
def test_no_result_beats_the_machine(trace, machine):
    report = hw_models.estimate(trace, machine)
    array_peak = max(machine.array.macs_per_cycle(mode) for mode in machine.array.modes)
    bandwidth, frequency = machine.memory.dram.bandwidth_bytes_per_second, machine.clock.frequency_hz
    for cost in (report.total, *report.by_role.values(), *report.by_layer.values()):
        assert cost.cycles * bandwidth >= cost.bytes * frequency
        assert 0 <= cost.utilization <= 1
        assert min(dataclasses.astuple(cost.energy)) >= 0
    for event in trace.gemms:
        peak = array_peak if gemm_modes(event, machine) else machine.vector.elements_per_cycle
        assert event_cost(event, machine).cycles * peak >= event.macs


@given(traces, machines, st.sampled_from(["dram", "sram", "accumulator"]), st.integers(1, 50))
def test_more_bandwidth_is_never_slower(trace, machine, level, factor):
    memory = getattr(machine.memory, level)
    name = next(key for key in type(memory).model_fields if key.startswith("bandwidth"))
    faster = memory.model_copy(update={name: factor * getattr(memory, name)})
    better = machine.model_copy(update={"memory": machine.memory.model_copy(update={level: faster})})
    assert hw_models.estimate(trace, better).cycles <= hw_models.estimate(trace, machine).cycles


@given(traces, machines)
def test_energy_and_bytes_do_not_depend_on_bandwidth(trace, machine):
    faster = machine.memory.dram.model_copy(update={"bandwidth_bytes_per_second": 10**9})
    better = machine.model_copy(update={"memory": machine.memory.model_copy(update={"dram": faster})})
    ours, theirs = hw_models.estimate(trace, machine), hw_models.estimate(trace, better)
    assert (ours.energy_pj, ours.bytes) == (theirs.energy_pj, theirs.bytes)
