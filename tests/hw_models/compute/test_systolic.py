"""Closed forms of systolic arrays against arrays walked cycle by cycle, SCALE-Sim and cases worked out by hand."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import systolic_cycles
from hw_models.compute.systolic import LAYOUT, systolic_work
from tests.hw_models.compute import walk

DATAFLOWS = ("ws", "os", "is")
LOADINGS = ("exposed", "hidden")
sizes = st.integers(0, 300)
lengths = st.integers(1, 40)
small = st.integers(1, 7)
sides = st.integers(1, 4)


def operands(M: int, N: int, K: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(M * 100 + N * 10 + K)
    return numbers.integers(-9, 9, (M, K)), numbers.integers(-9, 9, (K, N))


@settings(max_examples=60)
@given(small, small, small, sides, sides)
def test_output_stationary_is_what_a_walked_array_takes(M, N, K, rows, cols):
    a, b = operands(M, N, K)
    product, cycles = walk.output_stationary(a, b, rows, cols)
    assert (product == a @ b).all()
    assert cycles == systolic_cycles(M, N, K, rows, cols, "os")


@settings(max_examples=60)
@given(small, small, small, sides, sides)
def test_weight_and_input_stationary_are_what_a_walked_array_takes(M, N, K, rows, cols):
    a, b = operands(M, N, K)
    product, cycles = walk.weight_stationary(a, b, rows, cols)
    assert (product == a @ b).all()
    assert cycles == systolic_cycles(M, N, K, rows, cols, "ws")
    turned, cycles = walk.weight_stationary(b.T, a.T, rows, cols)
    assert (turned.T == a @ b).all()
    assert cycles == systolic_cycles(M, N, K, rows, cols, "is")


@settings(max_examples=60)
@given(small, small, small, sides, sides)
def test_hidden_loading_starts_folds_as_far_apart_as_a_walked_array_does(M, N, K, rows, cols):
    a, b = operands(M, N, K)
    product, starts = walk.double_buffered(a, b, rows, cols)
    assert (product == a @ b).all()
    work = systolic_work(M, N, K, rows=rows, cols=cols, dataflow="ws", loading="hidden")
    assert len(starts) == work.folds
    assert set(np.diff(starts)) <= {work.fold_cycles(work.time)}


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


@pytest.mark.parametrize(
    ("M", "cycles"),
    [
        # The next fold's first input enters with the last row's last product: 5 - 1 + 3 - 1 cycles after this one's.
        (5, 6),
        # One input a fold: three cycles, until the next weights are in.
        (1, 3),
    ],
)
def test_one_hidden_fold_by_hand(M, cycles):
    assert systolic_cycles(M, 4, 3, rows=3, cols=4, loading="hidden") == cycles


def test_a_fold_of_gemmini():
    # 16 x 16, 512 inputs: 512 + 16 - 2.
    assert systolic_cycles(512, 16, 16, 16, 16, loading="hidden") == 526


def test_rtl_of_4x4x4_output_stationary_takes_10_cycles():
    assert systolic_cycles(4, 4, 4, rows=4, cols=4, dataflow="os") == 10


def test_a_fold_more_costs_a_whole_array():
    one = systolic_cycles(10, 4, 4, rows=4, cols=4)
    assert systolic_cycles(10, 5, 4, rows=4, cols=4) == 2 * one
    assert systolic_cycles(10, 5, 5, rows=4, cols=4) == 4 * one


@given(sizes, sizes, sizes, lengths, lengths, st.sampled_from(DATAFLOWS), st.sampled_from(LOADINGS))
def test_cycles_are_bounded_by_the_peak(M, N, K, rows, cols, dataflow, loading):
    cycles = systolic_cycles(M, N, K, rows=rows, cols=cols, dataflow=dataflow, loading=loading)
    assert cycles * rows * cols >= M * N * K
    assert (cycles == 0) == (M * N * K == 0)


@given(sizes, sizes, sizes, lengths, lengths, st.sampled_from(DATAFLOWS))
def test_hidden_loading_is_never_slower(M, N, K, rows, cols, dataflow):
    shape = {"rows": rows, "cols": cols, "dataflow": dataflow}
    assert systolic_cycles(M, N, K, **shape, loading="hidden") <= systolic_cycles(M, N, K, **shape)


@given(sizes, sizes, sizes, lengths, lengths, st.sampled_from(LOADINGS))
def test_transposing_the_gemm_and_the_dataflow_changes_nothing(M, N, K, rows, cols, loading):
    ours = systolic_cycles(M, N, K, rows, cols, "is", loading)
    assert ours == systolic_cycles(N, M, K, rows, cols, "ws", loading)
    if loading == "exposed":
        assert systolic_cycles(M, N, K, rows, cols, "os") == systolic_cycles(N, M, K, cols, rows, "os")


@given(lengths, lengths, lengths, st.integers(1, 9), st.integers(1, 9))
def test_arrays_share_the_folds(M, N, K, count, arrays):
    work = systolic_work(M, N, K, rows=4, cols=4, dataflow="ws", count=count)
    together, alone = work.cycles(arrays=arrays), work.cycles()
    assert alone == count * systolic_cycles(M, N, K, 4, 4)
    assert together * arrays >= alone > (together - work.fold_cycles(work.time)) * arrays
    assert work.cycles(startup=7) == alone + 7


@given(sizes, sizes, sizes, st.sampled_from(DATAFLOWS))
def test_the_share_of_the_array_that_holds_work_is_the_mean_over_the_folds(M, N, K, dataflow):
    rows, cols = 3, 5
    work = systolic_work(M, N, K, rows=rows, cols=cols, dataflow=dataflow)
    over_rows, over_columns, _ = ({"M": M, "N": N, "K": K}[d] for d in LAYOUT[dataflow])
    held = over_rows * over_columns if M * N * K else 0
    assert work.mapping_efficiency * work.folds * rows * cols == pytest.approx(held)


@given(lengths, lengths, lengths, st.sampled_from(DATAFLOWS))
def test_reads_and_writes_are_counted_fold_by_fold(M, N, K, dataflow):
    rows, cols = 3, 5
    work = systolic_work(M, N, K, rows=rows, cols=cols, dataflow=dataflow)
    sizes = {"M": M, "N": N, "K": K}
    over_rows, over_columns, _ = LAYOUT[dataflow]
    counted = {"lhs": 0, "rhs": 0, "result": 0, "partial": 0}
    seen = set()
    for i in range(0, sizes[over_rows], rows):
        for j in range(0, sizes[over_columns], cols):
            part = dict(sizes)
            part[over_rows] = min(rows, sizes[over_rows] - i)
            part[over_columns] = min(cols, sizes[over_columns] - j)
            place = {over_rows: i, over_columns: j}
            for operand, dimensions in {"lhs": "MK", "rhs": "KN", "result": "MN"}.items():
                counted[operand] += part[dimensions[0]] * part[dimensions[1]]
            result = (place.get("M"), place.get("N"))
            counted["partial"] += part["M"] * part["N"] if result in seen else 0
            seen.add(result)
    assert counted == {
        "lhs": work.lhs_reads,
        "rhs": work.rhs_reads,
        "result": work.result_writes,
        "partial": work.partial_reads,
    }


@given(lengths, lengths, lengths, st.sampled_from(DATAFLOWS), st.integers(1, 4))
def test_packed_products_shorten_the_reduction_alone(M, N, K, dataflow, packed):
    shape = {"rows": 3, "cols": 5, "dataflow": dataflow}
    work = systolic_work(M, N, K, **shape, packed=packed)
    assert (work.cycles(), work.macs) == (systolic_cycles(M, N, -(-K // packed), **shape), M * N * K)
    steps = {work.row_dimension: work.row_step, work.column_dimension: work.column_step}
    assert steps.get("K", packed) % packed == 0


@given(st.integers(1, 100), st.integers(1, 100), st.sampled_from(LOADINGS))
def test_tiles_of_the_time_dimension_split_every_fold(M, tile, loading):
    work = systolic_work(M, 5, 3, rows=3, cols=5, dataflow="ws", loading=loading)
    pieces = [min(tile, M - start) for start in range(0, M, tile)]
    alone = [systolic_cycles(piece, 5, 3, 3, 5, "ws", loading) for piece in pieces]
    assert work.cycles(time_tile=tile) == sum(alone)


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
        ({"loading": "hiden"}, "unknown loading 'hiden': known are exposed, hidden; did you mean 'hidden'?"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        systolic_cycles(**({"M": 1, "N": 1, "K": 1} | arguments))
