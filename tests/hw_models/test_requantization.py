"""Results that leave the accumulators as codes: when, and what becomes of the work between two GEMMs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.explore.total import condensed, total_cost
from hw_models.requantization import requantized
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
    work("scale_reduction", 12, 48, 0),
    work("quantize", 12, 48, 12),
]
INFERENCE = WorkloadTrace([FIRST, *BETWEEN, SECOND, work("dequantize", 16, 64, 64)])


def test_codes_go_from_one_gemm_to_the_next_by_hand():
    assert (
        requantized(INFERENCE, MACHINE).events
        == [
            replace(FIRST, result_bits=8),
            work("requantize", 16, 0, 0),
            work("activation", 16, 16, 16),  # four times less than in float32
            *BETWEEN[4:],  # the weights
            replace(SECOND, result_bits=8),
            work("requantize", 16, 0, 0),
        ]
    )


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
    trace = WorkloadTrace([replace(FIRST, **change), *BETWEEN])
    assert requantized(trace, MACHINE) == trace


def test_sums_of_floats_that_are_the_result_are_left_alone():
    trace = WorkloadTrace([gemm(lhs="bf16", rhs="bf16", overflow="float"), *BETWEEN[1:], SECOND])
    assert requantized(trace, MACHINE) == trace


@pytest.mark.parametrize("after", [gemm(4, 4, 4, lhs="int16"), gemm(4, 4, 4, lhs="mxint8"), None])
def test_what_codes_can_not_stand_for_is_quantised_anew(after):
    end = [] if after is None else [after]
    found = requantized(WorkloadTrace([FIRST, *BETWEEN, *end]), MACHINE).events
    assert [e.kind for e in found if isinstance(e, VectorEvent)] == [
        *("requantize", "activation", "scale_reduction", "quantize", "scale_reduction", "quantize")
    ]


def test_the_tensor_behind_a_convolution_is_not_quantised_again():
    conv = ConvGeometry(
        batch=2, in_channels=4, in_height=6, in_width=6, out_channels=4, out_height=6, out_width=6,
        kernel_height=3, kernel_width=3, stride=(1, 1), dilation=(1, 1), groups=2,
    )  # fmt: skip
    layers = [conv_layer("a", conv), conv_layer("b", conv)]
    trace = requantized(step_trace(layers, MACHINE.op_spec(), training=False), MACHINE)
    weights = 2 * 18 * 2
    assert [e.elements for e in trace.vectors if e.kind == "quantize"] == [2 * 4 * 36, weights, weights]
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
