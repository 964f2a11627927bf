"""Results that leave the accumulators as codes: when, and what becomes of the work between two GEMMs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import hw_models
import lowbit_sim as lb
from hw_models.explore.total import condensed, total_cost
from hw_models.requantization import requantized, with_codes
from hw_models.workloads.layer import Layer, conv_layer, forward_events, training_events
from hw_models.workloads.step import step_trace
from lowbit_sim.trace import ConvGeometry, GemmEvent, VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

CODES = ('overflow = "wrap"', 'overflow = "wrap"\nresult_bits = 8')
MACHINE = tiny(CODES)
SUMS = tiny()


def work(kind, elements, read, write, **more):
    return VectorEvent(kind=kind, elements=elements, read_bytes=read, write_bytes=write, **more)


#: Two layers of 4 x 4 results with a rectifier between them.
FIRST, SECOND = gemm(4, 4, 8), gemm(4, 4, 4)
BETWEEN = [
    work("dequantize", 16, 64, 64),
    work("activation", 16, 64, 64),
    work("scale_reduction", 16, 64, 0),
    work("quantize", 16, 64, 16),
    work("scale_reduction", 12, 48, 0, parameter="weight"),
    work("quantize", 12, 48, 12, parameter="weight"),
]
INFERENCE = WorkloadTrace([FIRST, *BETWEEN, SECOND, work("dequantize", 16, 64, 64)])


def test_codes_go_from_one_gemm_to_the_next_by_hand():
    assert requantized(INFERENCE, MACHINE).events == [
        replace(FIRST, result_bits=8),
        work("requantize", 16, 0, 0),
        work("activation", 16, 16, 16),  # four times less than in float32
        replace(SECOND, result_bits=8),
        work("requantize", 16, 0, 0),
    ]


def test_without_the_key_nothing_changes():
    assert requantized(INFERENCE, SUMS) is INFERENCE


@pytest.mark.parametrize(
    "trains",
    [
        gemm(role="grad_input"),
        gemm(role="grad_weight"),
        work("optimizer_update", 4, 48, 32, role="update"),
        work("activation", 4, 16, 16, kept_bytes=1),
    ],
    ids=["grad_input", "grad_weight", "update", "kept"],
)
def test_in_training_results_leave_as_they_were_summed(trains):
    trace = WorkloadTrace([*INFERENCE.events, trains])
    assert requantized(trace, MACHINE) is trace


@pytest.mark.parametrize(
    "change",
    [{"outer_bits": 8}, {"M": 5}],
    ids=["sums are no wider than codes", "the conversion is of something else"],
)
def test_a_gemm_whose_sums_are_not_converted_is_left_alone(change):
    trace = WorkloadTrace([replace(FIRST, **change), *BETWEEN[:4]])
    assert requantized(trace, MACHINE) == trace


def test_sums_of_floats_that_are_the_result_are_left_alone():
    trace = WorkloadTrace([gemm(lhs="bf16", rhs="bf16", overflow="float"), *BETWEEN[1:4], SECOND])
    assert requantized(trace, MACHINE) == trace


@pytest.mark.parametrize("after", [gemm(4, 4, 4, lhs="mxint8"), None])
def test_what_codes_can_not_stand_for_is_quantised_anew(after):
    """With scales of blocks, which are found for these blocks, or for nobody knows what; of codes in any case."""
    end = [] if after is None else [after]
    found = requantized(WorkloadTrace([FIRST, *BETWEEN, *end]), MACHINE).vectors
    assert found[2:] == [work("scale_reduction", 16, 16, 0), work("quantize", 16, 16, 16)]


@pytest.mark.parametrize(("bits", "read"), [(4, 8), (16, 32)])
def test_codes_of_another_width_are_converted_once(bits, read):
    machine = tiny(('overflow = "wrap"', f'overflow = "wrap"\nresult_bits = {bits}'))
    found = requantized(INFERENCE, machine)
    assert found.vectors == [
        work("requantize", 16, 0, 0),
        work("activation", 16, read, read),
        work("quantize", 16, read, 16),
        work("requantize", 16, 0, 0),
    ]
    assert {e.result_bits for e in found.gemms} == {bits}


def test_an_operand_is_as_wide_as_the_memories_hold_it():
    """The machine has a mode of 4 bits, so that codes of 8 become codes of 4; without it 4 bits are held in 8."""
    narrow = WorkloadTrace([FIRST, *BETWEEN, gemm(4, 4, 4, lhs="int4", rhs="int4")])
    only_8 = tiny(
        CODES, ("operand_bits = 4\nmacs_per_pe_per_cycle = 2", "operand_bits = 16\nmacs_per_pe_per_cycle = 1")
    )
    kinds = [[e.kind for e in requantized(narrow, machine).vectors] for machine in (MACHINE, only_8)]
    assert kinds == [["requantize", "activation", "quantize"], ["requantize", "activation"]]


def test_codes_in_the_place_of_activations_of_16_bits():
    stored = ("[memory.sram]", '[arithmetic.activations]\noutput = "bf16"\n\n[memory.sram]')
    passed = [work("dequantize", 16, 64, 32), work("activation", 16, 32, 32)]
    found = requantized(WorkloadTrace([FIRST, *passed]), tiny(CODES, stored)).vectors
    assert found == [work("requantize", 16, 0, 0), work("activation", 16, 16, 16)]


def test_a_bias_is_added_on_the_way_out():
    """Four numbers of 32 bits are read; without the key the result is read and written once more."""
    bias = work("activation", 16, 64, 64, parameter="bias")
    trace = WorkloadTrace([FIRST, BETWEEN[0], bias, *BETWEEN[1:], SECOND])
    assert requantized(trace, MACHINE).vectors == [
        work("requantize", 16, 16, 0),
        work("activation", 16, 16, 16),
    ]
    assert requantized(trace, SUMS) is trace


def test_weights_of_a_network_are_codes_before_it_runs():
    """Of five layers nothing is quantised but what enters the first; the rest of the bill is the GEMMs'."""
    chain = [Layer(name=f"fc{i}", M=20, N=30, K=30, bias=True) for i in range(5)]
    trace = requantized(step_trace(chain, MACHINE.op_spec(), training=False), MACHINE)
    assert [(e.kind, e.layer, e.read_bytes) for e in trace.vectors] == [
        ("scale_reduction", "fc0", 20 * 30 * 4),
        ("quantize", "fc0", 20 * 30 * 4),
        *(("requantize", layer.name, 30 * 4) for layer in chain),
    ]


def test_the_factors_of_a_product_of_activations_are_quantised_unless_they_are_results():
    first, second = (Layer(name=name, M=4, N=5, K=6, weights=False) for name in ("a", "b"))
    trace = requantized(step_trace([first, second], MACHINE.op_spec(), training=False), MACHINE)
    passes = [(e.layer, e.elements, e.read_bytes) for e in trace.vectors if e.kind == "quantize"]
    assert passes == [("a", 24, 96), ("a", 30, 120)]


def test_a_model_that_ran_costs_what_its_layers_do():
    """The emulated layers say which operand is their weight, and where their bias is added."""
    model = lb.convert(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), [lb.Rule("*", MACHINE.op_spec())])
    with torch.no_grad(), lb.record() as ran:
        model(torch.randn(3, 6))
    layers = [Layer(name=name, M=3, N=6, K=6, bias=True) for name in ("0", "1")]
    by_sizes = step_trace(layers, MACHINE.op_spec(), training=False)
    one, other = (hw_models.estimate(trace, MACHINE) for trace in (ran, by_sizes))
    assert (one.cycles, one.bytes, one.energy_pj) == (other.cycles, other.bytes, other.energy_pj)
    assert [e.kind for e in requantized(ran, MACHINE).vectors] == [
        *("scale_reduction", "quantize", "requantize", "requantize")
    ]


def test_a_gemm_by_itself():
    assert with_codes(FIRST, MACHINE) == replace(FIRST, result_bits=8)
    assert with_codes(FIRST, SUMS) is FIRST
    sums_of_8 = replace(FIRST, outer_bits=8)
    assert with_codes(sums_of_8, MACHINE) is sums_of_8


def test_the_tensor_behind_a_convolution_is_not_quantised_again():
    conv = ConvGeometry(
        batch=2, in_channels=4, in_height=6, in_width=6, out_channels=4, out_height=6, out_width=6,
        kernel_height=3, kernel_width=3, stride=(1, 1), dilation=(1, 1), groups=2,
    )  # fmt: skip
    layers = [conv_layer("a", conv), conv_layer("b", conv)]
    trace = requantized(step_trace(layers, MACHINE.op_spec(), training=False), MACHINE)
    assert [e.elements for e in trace.vectors if e.kind == "quantize"] == [2 * 4 * 36]
    assert {e.result_bits for e in trace.gemms} == {8}


def test_codes_cost_less_than_sums():
    """Of the results 4 bytes crossed to the memory outside; of codes one, and nothing in between."""
    as_sums, as_codes = (hw_models.estimate(INFERENCE, machine) for machine in (SUMS, MACHINE))
    assert as_codes.cycles < as_sums.cycles
    assert as_codes.total.energy["dram"].nominal_pj < as_sums.total.energy["dram"].nominal_pj


@pytest.mark.parametrize(
    ("requantizer", "operations"), [("float", 4), ("integer_double", 4), ("integer_single", 3)]
)
def test_operations_of_each_requantiser(requantizer, operations):
    machine = tiny(CODES, ('overflow = "wrap"', f'overflow = "wrap"\nrequantizer = "{requantizer}"'))
    event = work("requantize", 16, 0, 0)
    report = hw_models.estimate(WorkloadTrace([event]), machine)
    assert report.cycles == 16 * operations / 4
    own = tiny(CODES, ("overlaps_array = false", "overlaps_array = false\noperations = { requantize = 1.0 }"))
    assert hw_models.estimate(WorkloadTrace([event]), own).cycles == 16 / 4


layers = st.builds(
    Layer,
    name=st.just("fc"),
    M=st.integers(1, 20),
    N=st.integers(1, 20),
    K=st.integers(1, 20),
    bias=st.booleans(),
)


@given(st.lists(layers, min_size=1, max_size=3), st.booleans())
def test_never_more_work_traffic_or_time(chain, training):
    events = [
        e
        for layer in chain
        for e in (training_events if training else forward_events)(layer, MACHINE.op_spec())
    ]
    trace = WorkloadTrace(events)
    codes = requantized(trace, MACHINE)
    assert len(codes.gemms) == len(trace.gemms)
    assert codes.macs == trace.macs
    assert [replace(e, result_bits=0) for e in codes.gemms] == trace.gemms
    before, after = (hw_models.estimate(t, SUMS) for t in (trace, codes))
    assert after.bytes <= before.bytes
    assert total_cost(condensed(trace), MACHINE).cycles == hw_models.estimate(trace, MACHINE).cycles
    assert isinstance(codes.gemms[0], GemmEvent)
