"""Traffic against SCALE-Sim's counts, and against cases worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models.cycles import systolic_schedule
from hw_models.memory import (
    Blocks,
    StoredOperand,
    Traffic,
    array_accesses,
    gemm_traffic,
    operand_bytes,
    result_blocks,
    vector_gemm_traffic,
    vector_traffic,
)
from lowbit_sim.trace import ConvGeometry, GemmEvent
from tests.hw_models.machines import gemm, tiny
from tests.hw_models.scalesim import CASES

lengths = st.integers(1, 200)


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_accesses_are_scalesims(dataflow):
    for c in CASES:
        if c.dataflow == dataflow:
            schedule = systolic_schedule(c.M, c.N, c.K, rows=c.rows, cols=c.cols, dataflow=dataflow)
            ours = array_accesses(c.M, c.N, c.K, schedule, dataflow)
            surplus = schedule.folds * (c.rows + c.cols) if dataflow == "os" else 0
            counts = (ours.lhs_reads, ours.rhs_reads, ours.result_writes + surplus)
            assert counts == (c.lhs_reads, c.rhs_reads, c.result_writes), c


def test_partial_sums_are_read_back_in_every_pass_but_the_first():
    schedule = systolic_schedule(4, 4, 12, rows=4, cols=4, dataflow="ws")
    assert array_accesses(4, 4, 12, schedule, "ws").partial_reads == 2 * 16
    schedule = systolic_schedule(4, 4, 12, rows=4, cols=4, dataflow="os")
    assert array_accesses(4, 4, 12, schedule, "os").partial_reads == 0


@given(lengths, lengths, st.integers(0, 5000))
def test_blocks_fit_and_lie_in_the_result(M, N, elements):
    blocks = result_blocks(M, N, elements)
    assert 1 <= blocks.height <= M
    assert 1 <= blocks.width <= N
    assert blocks.height * blocks.width <= max(elements, 1)


@pytest.mark.parametrize(
    ("M", "N", "elements", "blocks"),
    [
        (100, 100, 100, Blocks(height=10, width=10)),
        (100, 5, 100, Blocks(height=20, width=5)),
        (5, 100, 100, Blocks(height=5, width=20)),
        (5, 5, 100, Blocks(height=5, width=5)),
    ],
)
def test_blocks_are_as_square_as_the_result_allows(M, N, elements, blocks):
    assert result_blocks(M, N, elements) == blocks


@pytest.mark.parametrize(
    ("share_bytes", "lhs_crossings", "rhs_crossings"),
    [
        (1, 5, 10),  # nothing stays: once for each of 5 block columns, of 10 block rows
        (8 * 10, 1, 10),  # a block row of the lhs stays
        (8 * 20, 1, 10),  # so would a block column of the rhs, at 5 crossings of the lhs: 1600 bytes less
        (8 * 100, 1, 1),  # the whole rhs stays too
    ],
)
def test_operands_cross_once_if_what_is_needed_again_stays(share_bytes, lhs_crossings, rhs_crossings):
    M, N, K, blocks = 100, 100, 8, Blocks(height=10, width=20)
    operand = StoredOperand(elements=800, bits=8)
    crossed = operand_bytes(M, N, K, lhs=operand, rhs=operand, blocks=blocks, share_bytes=share_bytes)
    by_rows = 800 * (lhs_crossings + rhs_crossings)
    by_columns = 800 * (5 + 1) if share_bytes >= 8 * 20 else by_rows
    assert crossed == min(by_rows, by_columns)


def _traffic(event: GemmEvent, **widths: int) -> Traffic:
    profile = tiny()
    schedule = systolic_schedule(event.M, event.N, event.K, rows=4, cols=4, dataflow="ws")
    return gemm_traffic(event, schedule, profile, **({"lhs_bits": 8, "rhs_bits": 8} | widths))


def test_a_gemm_by_hand():
    # Two folds along K = 8: 32 reads of each operand, 32 writes of sums, 16 read back; all cross once.
    assert _traffic(gemm(4, 4, 8)) == Traffic(
        sram_read_bits=64 * 8,
        sram_write_bits=64 * 8,
        accumulator_read_bits=16 * 32 + 16 * 32,
        accumulator_write_bits=32 * 32,
        dram_read_bytes=64,
        dram_write_bytes=16 * 4,
    )


@pytest.mark.parametrize(
    ("K", "read_bytes"),
    [
        # 32 x 32 bytes are just the quarter of the SRAM that an operand has: both cross once.
        (32, 2 * 32 * 32),
        # One byte a row more does not fit; 11 rows of it do. Half of the accumulator memory holds blocks of
        # 11 x 11 sums (of 4 bytes in 512), so the other operand crosses for each of 3.
        (33, (1 + 3) * 32 * 33),
    ],
)
def test_memories_are_shared_as_documented(K, read_bytes):
    traffic = _traffic(gemm(32, 32, K))
    assert traffic.dram_read_bytes == read_bytes
    assert traffic.dram_write_bytes == 32 * 32 * 4


def test_operands_are_billed_at_their_stored_widths():
    traffic = _traffic(gemm(3, 1, 3), lhs_bits=4, rhs_bits=8)
    assert traffic.sram_read_bits == 9 * 4 + 3 * 8
    assert traffic.dram_read_bytes == 5 + 3  # 36 bits take 5 bytes
    assert traffic.dram_write_bytes == 3 * 4


def test_equal_gemms_cost_their_number():
    one, five = _traffic(gemm()), _traffic(gemm(count=5))
    assert five.dram_bytes == 5 * one.dram_bytes
    assert five.sram_bits == 5 * one.sram_bits
    assert five.accumulator_bits == 5 * one.accumulator_bits


def test_a_gemm_of_size_zero_moves_nothing():
    assert _traffic(gemm(4, 4, 0)) == Traffic()


CONV = ConvGeometry(
    batch=2, in_channels=4, in_height=5, in_width=5, out_channels=6, out_height=5, out_width=5,
    kernel_height=3, kernel_width=3, stride=(1, 1), dilation=(1, 1), groups=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("role", "M", "N", "K", "operands"),
    [
        # Of one group: 2 x 2 x 5 x 5 inputs, 3 x 2 x 3 x 3 weights, 2 x 3 x 5 x 5 outputs.
        ("output", 50, 3, 18, 100 + 54),
        ("grad_input", 50, 2, 27, 150 + 54),
        ("grad_weight", 3, 18, 50, 150 + 100),
    ],
)
def test_a_convolution_moves_the_tensor_and_not_its_windows(role, M, N, K, operands):
    event = gemm(M, N, K, role=role, count=2, conv=CONV)
    assert _traffic(event).dram_read_bytes == 2 * operands
    assert vector_gemm_traffic(event).dram_read_bytes == 2 * operands * 4
    # The array reads the windows all the same.
    assert _traffic(event).sram_read_bits == _traffic(gemm(M, N, K, count=2)).sram_read_bits


def test_a_strided_pointwise_convolution_moves_only_what_it_reads():
    conv = ConvGeometry(
        batch=1, in_channels=8, in_height=4, in_width=4, out_channels=8, out_height=2, out_width=2,
        kernel_height=1, kernel_width=1, stride=(2, 2), dilation=(1, 1), groups=1,
    )  # fmt: skip
    assert _traffic(gemm(4, 8, 8, conv=conv)).dram_read_bytes == 32 + 64


def test_vector_work_passes_through_the_sram():
    assert vector_traffic(40, 10) == Traffic(
        sram_read_bits=400, sram_write_bits=400, dram_read_bytes=40, dram_write_bytes=10
    )


def test_a_gemm_on_the_vector_unit_moves_each_tensor_once_at_32_bits():
    # 3 x 5 and 5 x 2 operands, 3 x 2 results, 4 bytes each, whatever the accumulator.
    assert vector_gemm_traffic(
        gemm(3, 2, 5, lhs="fp16", rhs="fp32", outer_bits=16, count=7)
    ) == vector_traffic(7 * 4 * (15 + 10), 7 * 4 * 6)
    assert vector_gemm_traffic(gemm(3, 2, 0)) == Traffic()
