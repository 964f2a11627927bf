"""Row-stationary arrays against the published numbers of Eyeriss, and against sets dealt out one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hw_models
from hw_models.compute.convolution import convolution_of
from hw_models.compute.row_stationary import active_elements, row_stationary_work
from hw_models.validation.eyeriss import layers
from lowbit_sim.trace import GemmEvent
from tests.hw_models.compute.events import array, conv_event, event, geometries, geometry, roles


@pytest.mark.parametrize(
    ("layer", "active"), [("CONV1", 154), ("CONV2", 135), ("CONV3", 156), ("CONV4", 156), ("CONV5", 156)]
)
def test_active_elements_of_alexnet_are_the_published_ones(layer, active):
    assert active_elements(layers()[layer], hw_models.load("eyeriss").array) == active


def dealt(gemm: GemmEvent, rows: int, columns: int, packed: int) -> int:
    """Cycles of one group: sets are taken from a list, as many at a time as stand on the array beside one another."""
    work = convolution_of(gemm)
    height, width = min(work.kernel_height, rows), min(work.output_height, columns)
    places = [
        (y, x) for y in range(0, rows - height + 1, height) for x in range(0, columns - width + 1, width)
    ]
    sets = [
        (image, filter_, channel, segment, part)
        for image in range(work.images)
        for filter_ in range(work.filters)
        for channel in range(work.channels)
        for segment in range(0, work.output_height, columns)
        for part in range(0, work.kernel_height, rows)
    ]
    cycles = 0
    while sets:
        del sets[: len(places)]
        for _ in range(work.output_width):
            cycles += len(range(0, work.kernel_width, packed))
    return cycles


@settings(max_examples=80)
@given(roles, geometries(), st.integers(1, 6), st.integers(1, 6), st.integers(1, 2))
def test_cycles_are_those_of_sets_dealt_one_by_one(role, conv, rows, columns, packed):
    gemm = conv_event(role, conv)
    work = row_stationary_work(gemm, array("rs", rows, columns), packed)
    assert work.cycles() == gemm.count * dealt(gemm, rows, columns, packed)
    assert work.macs == gemm.macs
    assert 0 < work.mapping_efficiency <= 1


def test_by_hand():
    """The case of the module."""
    conv = geometry(channels=2, size=(4, 4), filters=3, kernel=(2, 2))
    gemm = conv_event("output", conv)
    machine = array("rs", 4, 3)
    work = row_stationary_work(gemm, machine)
    assert work.cycles() == 18
    assert (gemm.macs, work.mapping_efficiency) == (216, 1.0)
    assert active_elements(gemm, machine) == 12
    # 6 channels and 18 filters fit the scratchpads: everything is read once.
    assert (work.lhs_reads, work.rhs_reads) == (2 * 16, 3 * 8)
    assert (work.result_writes, work.partial_reads) == (27, 0)


def test_channels_beyond_the_scratchpads_bring_partial_sums_back():
    conv = geometry(channels=13, size=(4, 4), filters=3, kernel=(2, 2))
    work = row_stationary_work(conv_event("output", conv), array("rs", 4, 3))
    # 6 channels at a time: 3 passes over 27 results.
    assert (work.result_writes, work.partial_reads) == (81, 54)


def test_reads_of_more_filters_and_rows_than_the_array_holds():
    conv = geometry(batch=2, channels=1, size=(6, 4), filters=100, kernel=(2, 2))
    work = row_stationary_work(conv_event("output", conv), array("rs", 4, 3))
    # 5 output rows are 2 segments, two sets stand over one another, each works on 18 filters (224 / 12) in turn.
    assert work.lhs_reads == 2 * 24 * -(-100 // (18 * 2))
    assert work.rhs_reads == 100 * 4 * 2 * 2


def test_skipped_zeros_take_no_time():
    conv = geometry(channels=4, size=(7, 7), filters=4, kernel=(3, 3), stride=2)
    gemm = conv_event("grad_input", conv)
    whole = row_stationary_work(gemm, array("rs", 6, 6))
    skipped = row_stationary_work(gemm, array("rs", 6, 6, skips_zeros=True))
    assert (skipped.cycles(), skipped.macs) == (-(-whole.cycles() // 4), -(-gemm.macs // 4))


def test_a_gemm_of_size_zero_takes_nothing():
    assert row_stationary_work(event("output", 4, 0, 4), array("rs", 4, 4)).cycles() == 0
