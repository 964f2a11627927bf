"""The array's dataflow decides how an event is laid out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models.compute.dispatch import array_work
from hw_models.compute.systolic import systolic_work
from tests.hw_models.compute.events import array, conv_event, event, geometries, geometry, mode, roles

sizes = st.integers(0, 40)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("loading", ["exposed", "hidden"])
def test_systolic_arrays_take_the_gemm_as_it_is(dataflow, loading):
    gemm = event("output", 9, 10, 11, count=3)
    expected = systolic_work(9, 10, 11, rows=4, cols=5, dataflow=dataflow, loading=loading, packed=2, count=3)
    assert array_work(gemm, array(dataflow, 4, 5, loading=loading), mode(2)) == expected


def test_skipped_zeros_shorten_the_reduction_by_the_stride():
    conv = geometry(channels=4, size=(7, 7), filters=6, kernel=(3, 3), stride=2)
    gemm = conv_event("grad_input", conv)
    skipped = array_work(gemm, array("ws", 4, 4, skips_zeros=True), mode())
    # 6 filters x 9 positions = 54 products, of which a quarter meets no inserted zero: 14.
    assert skipped.cycles() == systolic_work(gemm.M, gemm.N, 14, rows=4, cols=4, dataflow="ws").cycles()
    assert skipped.macs == -(-gemm.macs // 4)
    kept = array_work(gemm, array("ws", 4, 4), mode())
    assert (kept.macs, kept.cycles() > skipped.cycles()) == (gemm.macs, True)


@given(roles, geometries(), st.sampled_from(("ws", "os", "is", "rs", "spatial")), st.integers(1, 3))
def test_no_array_beats_its_peak(role, conv, dataflow, arrays):
    gemm = conv_event(role, conv)
    machine = array(dataflow, 3, 4, arrays=arrays)
    work = array_work(gemm, machine, mode())
    assert work.cycles(arrays=arrays) * machine.macs_per_cycle(mode()) >= work.macs
    assert min(work.lhs_reads, work.rhs_reads, work.result_writes) > 0 <= work.partial_reads


@given(sizes, sizes, sizes, st.sampled_from(("ws", "os", "is", "rs", "spatial")))
def test_a_gemm_of_size_zero_takes_nothing(M, N, K, dataflow):
    work = array_work(event("output", M, N, K), array(dataflow, 3, 4), mode())
    assert (work.cycles() == 0) == (M * N * K == 0)
    assert work.macs == M * N * K
