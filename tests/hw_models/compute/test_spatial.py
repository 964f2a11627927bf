"""Spatial arrays against loops that are counted one step at a time."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.compute.convolution import convolution_of
from hw_models.compute.spatial import spatial_work
from lowbit_sim.trace import GemmEvent
from tests.hw_models.compute.events import array, conv_event, event, geometries, geometry, roles

sides = st.integers(1, 4)


def counted(
    gemm: GemmEvent, rows: int, columns: int, pixels: tuple[int, int], packed: int
) -> tuple[int, int]:
    """(steps, products) of one group by the array's loops, each step one cycle."""
    work = convolution_of(gemm)
    steps = products = 0
    loops = (
        range(0, work.filters, columns),
        range(work.images),
        range(0, work.output_height, pixels[0]),
        range(0, work.output_width, pixels[1]),
        range(work.kernel_height),
        range(work.kernel_width),
        range(0, work.channels, rows * packed),
    )
    for filters, _, y, x, _, _, channels in product(*loops):
        steps += 1
        products += (
            min(columns, work.filters - filters)
            * min(pixels[0], work.output_height - y)
            * min(pixels[1], work.output_width - x)
            * min(rows * packed, work.channels - channels)
        )
    return steps, products


@settings(max_examples=80)
@given(roles, geometries(), sides, sides, st.tuples(st.integers(1, 2), st.integers(1, 3)), st.integers(1, 2))
def test_cycles_are_the_steps_of_the_loops(role, conv, rows, columns, pixels, packed):
    gemm = conv_event(role, conv)
    machine = array("spatial", rows, columns, pixel_rows=pixels[0], pixel_columns=pixels[1])
    work = spatial_work(gemm, machine, packed)
    steps, products = counted(gemm, rows, columns, pixels, packed)
    assert work.cycles() == gemm.count * steps
    assert work.macs == gemm.count * products
    peak = rows * columns * pixels[0] * pixels[1] * packed
    assert work.mapping_efficiency == pytest.approx(products / (steps * peak))


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
