"""Spatial arrays against arrays walked step by step, and cases worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.compute.convolution import convolution_of
from hw_models.compute.dispatch import array_work
from hw_models.compute.spatial import spatial_works
from hw_models.compute.work import ArrayWork
from hw_models.schema.array import Array
from lowbit_sim.trace import ConvGeometry, GemmEvent, Role
from tests.hw_models.compute import spatial_walk
from tests.hw_models.compute.events import (
    array,
    conv_event,
    event,
    geometries,
    geometry,
    grouped_geometries,
    mode,
    roles,
)

sides = st.integers(1, 4)
trees = st.builds(
    spatial_walk.Trees,
    rows=sides,
    columns=sides,
    pixels=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    packed=st.integers(1, 2),
    padded_to=st.sampled_from((1, 1, 2, 4)),
)


def spatial_work(gemm: GemmEvent, machine: Array, packed: int = 1) -> ArrayWork:
    """The faster of the ways in which the array can take a convolution."""
    return array_work(gemm, machine, mode(packed))


def machine_of(size: spatial_walk.Trees, **more: object) -> Array:
    return array(
        "spatial",
        size.rows,
        size.columns,
        pixel_rows=size.pixels[0],
        pixel_columns=size.pixels[1],
        steps_padded_to=size.padded_to,
        **more,
    )


def walked(
    role: Role, conv: ConvGeometry, size: spatial_walk.Trees, *, side_by_side: bool
) -> spatial_walk.Walked:
    """The walk of a role, whose numbers are those of PyTorch."""
    work = convolution_of(conv_event(role, conv))
    tensors = spatial_walk.operands(conv)
    laid = spatial_walk.as_convolution(role, conv, *tensors)
    found = spatial_walk.walk(laid, (work.output_height, work.output_width), size, side_by_side=side_by_side)
    assert (found.result == spatial_walk.by_torch(role, conv, *tensors)).all()
    return found


def check(role: Role, conv: ConvGeometry, size: spatial_walk.Trees, machine: Array) -> None:
    """The closed forms have the cycles, reads and writes of walks: groups in turn, then side by side."""
    gemm = conv_event(role, conv)
    in_turn, *others = spatial_works(gemm, machine, size.packed)
    assert in_turn.at_once == 1
    compare(gemm, in_turn, walked(role, conv, size, side_by_side=False), size)
    for work in others:
        assert work.at_once > 1
        compare(gemm, work, walked(role, conv, size, side_by_side=True), size)


def compare(gemm: GemmEvent, work: ArrayWork, found: spatial_walk.Walked, size: spatial_walk.Trees) -> None:
    assert work.cycles() == found.cycles
    assert work.macs == gemm.macs
    image_reads, filter_reads = work.lhs_reads, work.rhs_reads
    if convolution_of(gemm).image_operand == "rhs":
        image_reads, filter_reads = filter_reads, image_reads
    assert gemm.count * image_reads == found.image_reads
    assert gemm.count * filter_reads == len(found.filters_read)
    assert gemm.count * work.result_writes == found.writes
    assert gemm.count * work.partial_reads == found.partial_reads
    peak = size.rows * size.columns * size.pixels[0] * size.pixels[1] * size.packed
    assert work.mapping_efficiency == pytest.approx(gemm.macs / (found.cycles * peak))


@settings(max_examples=60)
@given(roles, geometries(), trees)
def test_groups_in_turn_are_what_a_walked_array_takes(role, conv, size):
    check(role, conv, size, machine_of(size))


@settings(max_examples=150)
@given(roles, grouped_geometries(), trees)
def test_a_depthwise_mode_is_what_a_walked_array_takes(role, conv, size):
    check(role, conv, size, machine_of(size, depthwise_over_columns=True))


@given(roles, grouped_geometries(), trees)
def test_groups_run_side_by_side_where_that_can_be_faster(role, conv, size):
    """What is not among the ways would not be faster: groups that are not depthwise, or too large for two."""
    gemm = conv_event(role, conv)
    ways = spatial_works(gemm, machine_of(size, depthwise_over_columns=True), size.packed)
    depthwise = conv.groups == conv.in_channels
    several = min(size.columns // convolution_of(gemm).filters, size.rows) > 1
    assert len(ways) == (2 if depthwise and several else 1)


@given(roles, grouped_geometries(), trees, st.integers(1, 3))
def test_a_depthwise_mode_is_never_slower(role, conv, size, arrays):
    gemm = conv_event(role, conv)
    plain, mode = (
        spatial_work(gemm, machine_of(size, arrays=arrays, depthwise_over_columns=has), size.packed)
        for has in (False, True)
    )
    assert mode.cycles(arrays=arrays) <= plain.cycles(arrays=arrays)


def test_by_hand():
    """The case of the module: 9 pixels x 4 positions x 2 channel steps, for two folds of filters."""
    conv = geometry(channels=3, size=(4, 4), filters=5, kernel=(2, 2))
    work = spatial_work(conv_event("output", conv), array("spatial", 2, 4))
    assert (work.column_folds, work.time, work.cycles()) == (2, 72, 144)
    assert work.macs == 540
    assert work.mapping_efficiency == pytest.approx(540 / (144 * 8))
    # Inputs twice, weights once; 8 passes over the results, of which 7 read the sums of the one before.
    assert (work.lhs_reads, work.rhs_reads) == (2 * 9 * 12, 12 * 5)
    assert (work.result_writes, work.partial_reads) == (8 * 45, 7 * 45)


def test_a_depthwise_convolution_uses_one_row_and_column():
    conv = geometry(channels=8, size=(6, 6), filters=8, kernel=(3, 3), groups=8)
    work = spatial_work(conv_event("output", conv), array("spatial", 8, 8))
    assert work.cycles() == 8 * 16 * 9
    assert work.mapping_efficiency == pytest.approx(1 / 64)


def test_a_depthwise_mode_uses_one_row_of_every_column():
    conv = geometry(channels=8, size=(6, 6), filters=8, kernel=(3, 3), groups=8)
    work = spatial_work(conv_event("output", conv), array("spatial", 8, 8, depthwise_over_columns=True))
    assert (work.at_once, work.cycles()) == (8, 16 * 9)
    assert work.mapping_efficiency == pytest.approx(1 / 8)
    # Each of the 8 GEMMs still reads its own window and kernel, and adds up at each of 9 positions.
    assert (work.lhs_reads, work.rhs_reads) == (16 * 9, 9)
    assert (work.result_writes, work.partial_reads) == (9 * 16, 8 * 16)


@pytest.mark.parametrize(
    ("rows", "columns", "multiplier", "at_once"),
    [
        (8, 8, 1, 8),
        (4, 8, 1, 4),  # four channels are broadcast
        (8, 8, 3, 2),  # three filters of a group, two groups on eight columns
        (8, 4, 5, 1),  # a group's filters fill more than the columns
    ],
)
def test_groups_side_by_side_share_the_columns_and_the_broadcast_channels(rows, columns, multiplier, at_once):
    conv = geometry(channels=16, size=(4, 4), filters=16 * multiplier, kernel=(2, 2), groups=16)
    machine = array("spatial", rows, columns, depthwise_over_columns=True)
    assert spatial_work(conv_event("output", conv), machine).at_once == at_once


def test_groups_of_more_channels_run_one_after_another():
    conv = geometry(channels=16, size=(4, 4), filters=16, kernel=(2, 2), groups=8)
    machine = array("spatial", 8, 8, depthwise_over_columns=True)
    assert spatial_work(conv_event("output", conv), machine).cycles() == 8 * 9 * 4


def test_gradients_of_weights_sum_over_samples_in_the_rows_where_that_is_faster():
    machine = array("spatial", 8, 8, depthwise_over_columns=True)
    few, many = (
        spatial_work(
            conv_event(
                "grad_weight",
                geometry(batch=batch, channels=12, size=(4, 4), filters=12, kernel=(2, 2), groups=12),
            ),
            machine,
        )
        for batch in (1, 16)
    )
    # 4 results, each a sum over 9 pixels: of 12 groups in two rounds, or of 16 samples in two steps of 8.
    assert (few.at_once, few.cycles()) == (8, 2 * 4 * 9)
    assert (many.at_once, many.cycles()) == (1, 12 * 4 * 9 * 2)


def test_units_of_output_stay_for_whole_runs_of_steps():
    conv = geometry(channels=8, size=(6, 6), filters=8, kernel=(3, 3), groups=8)
    machine = array("spatial", 8, 8, depthwise_over_columns=True, steps_padded_to=4)
    work = spatial_work(conv_event("output", conv), machine)
    assert work.cycles() == 16 * 12  # 9 positions as 12
    assert (work.result_writes, work.lhs_reads) == (9 * 16, 9 * 16)  # padding reads and writes nothing
    dense = geometry(channels=24, size=(6, 6), filters=8, kernel=(3, 3))
    # Three steps over the channels at 9 positions: 9 x 4 depth first, 12 x 3 part kernel first.
    assert spatial_work(conv_event("output", dense), machine).cycles() == 16 * 36


def test_grad_weight_streams_the_input_against_the_gradient():
    conv = geometry(batch=4, channels=3, size=(4, 4), filters=5, kernel=(2, 2))
    work = spatial_work(conv_event("grad_weight", conv), array("spatial", 2, 4))
    # 3 input channels x 2 x 2 results, each a sum over 3 x 3 pixels and, two at a time, 4 samples.
    assert (work.time, work.column_folds) == (3 * 4 * 9 * 2, 2)
    assert (work.lhs_reads, work.rhs_reads) == (5 * 36, 2 * 36 * 12)


def test_skipped_zeros_take_neither_time_nor_energy():
    conv = geometry(channels=4, size=(7, 7), filters=4, kernel=(3, 3), stride=2)
    gemm = conv_event("grad_input", conv)
    all_of_them = spatial_work(gemm, array("spatial", 4, 4))
    skipped = spatial_work(gemm, array("spatial", 4, 4, skips_zeros=True))
    assert skipped.cycles() == -(-all_of_them.cycles() // 4)
    assert skipped.macs == -(-gemm.macs // 4)
    forward = conv_event("output", conv)
    assert spatial_work(forward, array("spatial", 4, 4, skips_zeros=True)).macs == forward.macs


def test_a_gemm_of_size_zero_takes_nothing():
    work = spatial_work(event("output", 0, 4, 4), array("spatial", 4, 4))
    assert (work.cycles(), work.macs, work.lhs_reads, work.mapping_efficiency) == (0, 0, 0, 0.0)
