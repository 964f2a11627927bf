"""What is left of a trace's traffic where neighbours are fused, by hand and in general."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.explore.total import condensed, total_cost
from hw_models.fusion import fused
from lowbit_sim.trace import VECTOR_KINDS, VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

FUSES = ("overlaps_array = false", "overlaps_array = false\nfuses = true")


def work(kind, read, write, elements=10, **more):
    return VectorEvent(kind=kind, elements=elements, read_bytes=read, write_bytes=write, **more)


def moved(*events):
    """Bytes that each vector event still reads and writes."""
    left = fused(WorkloadTrace(list(events))).events
    return [(e.read_bytes, e.write_bytes) for e in left if isinstance(e, VectorEvent)]


def test_a_convolution_with_batch_norm_and_rectifier_by_hand():
    # 10 elements of 4 bytes, sums of 2 bytes: the conversion adds 20 bytes to what the GEMM wrote, the batch-norm
    # passes over its input a second time, the rectifier's output is written because the backward pass reads it,
    # the scale is found on the way, and the quantiser has to read again.
    assert moved(
        gemm(),
        work("dequantize", 20, 40),
        work("batch_norm", 80, 40, keeps="operand", kept_bytes=40),
        work("activation", 40, 40, keeps="result", kept_bytes=40),
        work("scale_reduction", 40, 0),
        work("quantize", 40, 10),
    ) == [(0, 20), (40, 0), (0, 40), (0, 0), (40, 10)]


def test_sums_that_need_no_conversion_are_taken_as_they_come():
    float_sums = {"M": 2, "N": 5, "K": 8, "lhs": "bf16", "rhs": "bf16", "overflow": "float"}
    assert moved(gemm(**float_sums), work("batch_norm", 80, 40)) == [(40, 40)]
    assert moved(gemm(**float_sums, outer_bits=16), work("batch_norm", 80, 40)) == [(80, 40)]
    assert moved(gemm(**float_sums, role="grad_weight"), work("batch_norm", 80, 40)) == [(80, 40)]


def test_codes_on_their_way_out_are_rectified_there():
    """The GEMM writes 10 codes, those of the rectifier, or as many bytes as a pooling's fewer ones and more."""
    codes = gemm(2, 5, 8, result_bits=8)
    out = work("requantize", 0, 0)
    assert moved(codes, out, work("activation", 10, 10)) == [(0, 0), (0, 0)]
    assert moved(codes, out, work("activation", 10, 10), work("pooling", 10, 3)) == [(0, 0)] * 3
    assert moved(codes, out, work("activation", 10, 20)) == [(0, 0), (0, 10)]


def test_codes_that_are_read_twice_go_out_and_come_back():
    """A batch-norm reads them on their way and once more, and its own result goes out."""
    codes, norm = gemm(2, 5, 8, result_bits=8), work("batch_norm", 20, 10)
    assert moved(codes, work("requantize", 0, 0), norm) == [(0, 0), (10, 10)]


def test_codes_and_a_rectifier_of_a_machine_for_inference():
    """With `fuses`, what a rectifier takes off a network is the traffic of its own; its cycles stay."""
    machine = tiny(FUSES, ('overflow = "wrap"', 'overflow = "wrap"\nresult_bits = 8'))
    made = [gemm(2, 5, 8), work("dequantize", 40, 40)]
    plain, rectified = (
        hw_models.estimate(WorkloadTrace(events), machine)
        for events in (made, [*made, work("activation", 40, 40)])
    )
    assert rectified.bytes == plain.bytes
    assert rectified.cycles > plain.cycles


def test_without_a_scale_to_find_the_quantiser_reads_nothing():
    assert moved(work("batch_norm", 80, 40), work("quantize", 40, 10)) == [(80, 0), (0, 10)]


@pytest.mark.parametrize("keeps", ["operand", "result"])
def test_what_the_backward_pass_reads_is_written(keeps):
    """The rectifier's result is kept, or the taker's operand is: both are the tensor between the two."""
    first = work("activation", 40, 40, keeps="result" if keeps == "result" else "")
    second = work("activation", 40, 40, keeps="operand" if keeps == "operand" else "")
    assert moved(first, second) == [(40, 40), (0, 40)]


@pytest.mark.parametrize(
    "second",
    [
        work("activation", 44, 44, elements=11),  # of another size
        work("optimizer_update", 120, 80),
        work("activation", 36, 40),  # reads less than was made
    ],
)
def test_other_tensors_are_not_fused(second):
    assert moved(work("activation", 40, 40), second) == [(40, 40), (second.read_bytes, second.write_bytes)]


def test_nothing_is_fused_over_a_gemm_or_with_a_weights_gradient():
    assert moved(work("activation", 40, 40), gemm(), work("activation", 40, 40)) == [(40, 40), (40, 40)]
    assert moved(gemm(role="grad_weight"), work("dequantize", 20, 40), work("activation", 40, 40)) == [
        (0, 20),
        (40, 40),
    ]


events = st.lists(
    st.one_of(
        st.builds(
            work,
            st.sampled_from(VECTOR_KINDS),
            st.integers(0, 3).map(lambda n: 40 * n),
            st.integers(0, 2).map(lambda n: 20 * n),
            st.sampled_from([10, 20]),
            keeps=st.sampled_from(["", "operand", "result", "marks"]),
        ),
        st.builds(gemm, role=st.sampled_from(["output", "grad_input", "grad_weight"])),
    ),
    max_size=12,
)


@given(events)
def test_fusing_only_takes_bytes_away(listed):
    left = fused(WorkloadTrace(listed)).events
    assert len(left) == len(listed)
    for before, after in zip(listed, left, strict=True):
        if isinstance(before, VectorEvent):
            assert 0 <= after.read_bytes <= before.read_bytes
            assert 0 <= after.write_bytes <= before.write_bytes
            same = {"read_bytes": before.read_bytes, "write_bytes": before.write_bytes}
            assert replace(after, **same) == before
        else:
            assert after == before


@given(events)
def test_a_machine_that_fuses_is_never_slower_and_takes_no_more(listed):
    trace = WorkloadTrace(listed)
    plain, fusing = hw_models.estimate(trace, tiny()), hw_models.estimate(trace, tiny(FUSES))
    assert fusing.cycles <= plain.cycles
    assert fusing.energy_pj <= plain.energy_pj
    assert fusing.footprint == plain.footprint


@given(events)
def test_the_total_of_a_sweep_is_the_estimates(listed):
    trace, machine = WorkloadTrace(listed), tiny(FUSES)
    assert total_cost(condensed(trace), machine).cycles == hw_models.estimate(trace, machine).cycles
