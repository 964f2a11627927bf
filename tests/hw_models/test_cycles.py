"""Schedules against SCALE-Sim, and against cases worked out by hand."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models import systolic_cycles, systolic_schedule
from tests.hw_models.scalesim import CASES, Case

DATAFLOWS = ("ws", "os", "is")
sizes = st.integers(0, 300)
lengths = st.integers(1, 40)


def test_the_reference_has_all_its_rows():
    assert len(CASES) == 541
    assert {case.dataflow for case in CASES} == set(DATAFLOWS)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_cycles_are_scalesims(dataflow):
    wrong = [c for c in CASES if c.dataflow == dataflow and _cycles(c) != c.schedule_cycles]
    assert wrong == []


def _cycles(case: Case) -> int:
    return systolic_cycles(case.M, case.N, case.K, rows=case.rows, cols=case.cols, dataflow=case.dataflow)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_mapping_efficiency_is_scalesims(dataflow):
    for c in CASES:
        if c.dataflow == dataflow:
            schedule = systolic_schedule(c.M, c.N, c.K, rows=c.rows, cols=c.cols, dataflow=dataflow)
            assert round(100 * schedule.mapping_efficiency, 6) == c.mapping_eff_pct, c


@pytest.mark.parametrize(
    ("dataflow", "cycles"),
    [
        # Skew to the far corner 2 + 3, then K = 7 products.
        ("os", 2 + 3 + 7),
        # 3 cycles of loading; row M - 1 enters at cycle 5 - 1 = 4, 2 + 3 hops to the corner, 1 to count from 1.
        ("ws", 3 + 4 + 2 + 3 + 1),
        # As ws, with N = 6 columns streaming.
        ("is", 3 + 5 + 2 + 3 + 1),
    ],
)
def test_one_fold_by_hand(dataflow, cycles):
    # The two sizes over the 3 x 4 array fill it: one fold.
    M, N, K = {"os": (3, 4, 7), "ws": (5, 4, 3), "is": (4, 6, 3)}[dataflow]
    assert systolic_cycles(M, N, K, rows=3, cols=4, dataflow=dataflow) == cycles


def test_rtl_of_4x4x4_output_stationary_takes_10_cycles():
    assert systolic_cycles(4, 4, 4, rows=4, cols=4, dataflow="os") == 10


def test_a_fold_more_costs_a_whole_array():
    one = systolic_cycles(10, 4, 4, rows=4, cols=4)
    assert systolic_cycles(10, 5, 4, rows=4, cols=4) == 2 * one
    assert systolic_cycles(10, 5, 5, rows=4, cols=4) == 4 * one


@given(sizes, sizes, sizes, lengths, lengths, st.sampled_from(DATAFLOWS))
def test_cycles_are_bounded_by_the_peak(M, N, K, rows, cols, dataflow):
    cycles = systolic_cycles(M, N, K, rows=rows, cols=cols, dataflow=dataflow)
    assert cycles * rows * cols >= M * N * K
    assert (cycles == 0) == (M * N * K == 0)


@given(sizes, sizes, sizes, lengths, lengths)
def test_input_stationary_is_weight_stationary_with_operands_exchanged(M, N, K, rows, cols):
    assert systolic_cycles(M, N, K, rows, cols, "is") == systolic_cycles(N, M, K, rows, cols, "ws")


@given(lengths, lengths, lengths, st.integers(1, 9), st.integers(1, 9))
def test_arrays_share_the_folds(M, N, K, count, arrays):
    schedule = systolic_schedule(M, N, K, rows=4, cols=4, dataflow="ws")
    together = schedule.cycles(count=count, arrays=arrays)
    assert together * arrays >= count * schedule.cycles() > (together - schedule.cycles_per_fold) * arrays


def test_sizes_of_numpy_do_not_overflow():
    assert systolic_cycles(np.int32(2**30), np.int32(2**30), np.int8(4), np.int8(4), np.int8(4)) == (
        2**28 * (2 * 4 + 4 + 2**30 - 2)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"M": -1}, "M is a whole number from 0 to 2^62, got M=-1"),
        ({"M": 4.5}, "M is a whole number from 0 to 2^62, got M=4.5"),
        ({"K": 4.0}, "K is a whole number from 0 to 2^62, got K=4.0"),
        ({"N": True}, "N is a whole number from 0 to 2^62, got N=True"),
        ({"N": "4"}, "N is a whole number from 0 to 2^62, got N='4'"),
        ({"rows": 0}, "rows is a whole number from 1 to 2^62, got rows=0"),
        ({"cols": 2.5}, "cols is a whole number from 1 to 2^62, got cols=2.5"),
        ({"dataflow": "wss"}, "unknown dataflow 'wss': known are is, os, ws; did you mean 'ws'?"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        systolic_cycles(**({"M": 1, "N": 1, "K": 1} | arguments))
