"""The proofs are never wrong, and not needlessly weak."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.bounds import (
    _integer_norms,
    _norms,
    _norms_on_device,
    dtype_magnitude,
    find_unproven,
    magnitude,
    magnitudes,
    range_proof,
)
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.norms_kernel import chunk_norms
from tests.arith.strategies import mac_units, operands, random_table, table_gemms


@given(matrices=operands(), mac=mac_units())
def test_what_is_proven_does_not_overflow(matrices, mac):
    check_proven(*matrices, mac)


@given(case=table_gemms())
def test_what_is_proven_of_a_table_does_not_overflow(case):
    check_proven(*case)


def check_proven(a, b, mac):
    unproven = find_unproven(mac, a, b)
    keep_rows = [i for i in range(a.shape[0]) if i not in unproven.rows.tolist()]
    keep_columns = [j for j in range(b.shape[1]) if j not in unproven.columns.tolist()]
    for left, right in ((a[keep_rows], b), (a, b[:, keep_columns])):
        if unproven.empty:
            left, right = a, b
        assert run_gemm(left, right, mac, backend="reference").overflows == 0


@pytest.mark.parametrize(
    ("k", "value", "bits", "proven"),
    [
        (1, 127, 15, True),
        (1, 127, 14, False),
        (2, 127, 16, True),
        (3, 127, 16, False),
        (131071, 127, 32, True),
    ],
)
def test_the_range_bound_is_tight(k, value, bits, proven):
    mac = MacUnit(accumulator_bits=bits, overflow="saturate")
    assert (range_proof(mac, k, value, value) is not None) is proven
    assert (k * value * value <= 2 ** (bits - 1) - 1) is proven


def test_the_range_bound_looks_at_chunks_and_at_the_whole():
    assert range_proof(MacUnit(accumulator_bits=16, chunk=2, outer_bits=32), 1000, 127, 127)
    assert range_proof(MacUnit(accumulator_bits=16, chunk=2, outer_bits=18), 1000, 127, 127) is None
    assert range_proof(MacUnit(accumulator_bits=32, outer_bits=8), 10, 10, 10) is None


def test_cauchy_schwarz_proves_what_the_range_does_not():
    a, b = torch.zeros(1, 64, dtype=torch.int8), torch.zeros(64, 1, dtype=torch.int8)
    a[0, 0], b[1, 0] = 127, 127
    unproven = find_unproven(MacUnit(accumulator_bits=16, overflow="saturate"), a, b)
    assert unproven.empty
    assert unproven.why == "Cauchy-Schwarz and L1 norms fit the accumulator"


def test_the_l1_bound_proves_what_cauchy_schwarz_does_not():
    # ||a||_2 ||b||_2 = 127 sqrt(2) * 10 sqrt(64) > 8191, but ||a||_1 max|b| = 254 * 10.
    a, b = torch.zeros(1, 64, dtype=torch.int8), torch.full((64, 1), 10, dtype=torch.int8)
    a[0, :2] = 127
    assert find_unproven(MacUnit(accumulator_bits=14, overflow="saturate"), a, b).empty


def test_a_narrow_outer_accumulator_is_seen_without_chunks():
    a = torch.full((1, 4), 100, dtype=torch.int8)
    b = torch.full((4, 1), 3, dtype=torch.int8)
    assert find_unproven(MacUnit(accumulator_bits=20), a, b).empty
    assert not find_unproven(MacUnit(accumulator_bits=20, outer_bits=10), a, b).empty


@pytest.mark.parametrize(
    ("fields", "proven"),
    [
        ({}, False),
        ({"overflow_at": "chunk"}, False),
        ({"overflow_at": "outer"}, True),
        ({"overflow_at": "outer", "outer_bits": 22}, False),
    ],
)
def test_an_exact_inner_sum_needs_only_the_outer_width(fields, proven):
    # A chunk of 4 x 127 x 127 does not fit 16 bits; all 256 products fit 23.
    mac = MacUnit(**{"accumulator_bits": 16, "chunk": 4, "outer_bits": 24, **fields})
    assert (range_proof(mac, 256, 127, 127) is not None) is proven


def test_truncated_sums_may_round_up_by_one_each():
    # Each of the chunks of one product 1 moves on as 1 / 256 rounded up to 1: 4095 of them fit 13 bits.
    mac = MacUnit(accumulator_bits=16, chunk=1, outer_bits=13, truncated_bits=8, truncation="up")
    assert range_proof(mac, 4000, 1, 1)
    assert range_proof(mac, 4096, 1, 1) is None
    ones = torch.ones(1, 4096, dtype=torch.int8)
    assert run_gemm(ones[:, :4095], ones[:, :4095].t(), mac).overflows == 0
    assert run_gemm(ones, ones.t(), mac).overflows == 1


def test_a_table_is_bounded_by_its_largest_product():
    mac = MacUnit(accumulator_bits=16, overflow="saturate", products=random_table(4, True, 300, 0))
    largest = mac.products.largest
    a = torch.zeros(2, 32767 // largest, dtype=torch.int8)
    assert find_unproven(mac, a, a.t()).empty
    one_more = torch.zeros(2, 32767 // largest + 1, dtype=torch.int8)
    unproven = find_unproven(mac, one_more, one_more.t())
    assert (unproven.rows.tolist(), unproven.columns.tolist()) == ([0, 1], [0, 1])
    assert "no bound but their range" in unproven.why


def test_magnitudes():
    assert magnitude(torch.tensor([-128, 5], dtype=torch.int8)) == 128
    assert magnitude(torch.empty(0, dtype=torch.int8)) == 0
    assert dtype_magnitude(torch.empty(0, dtype=torch.int8)) == 128
    assert dtype_magnitude(torch.empty(0, dtype=torch.uint8)) == 255


@given(matrices=operands(), chunk=st.integers(1, 12))
def test_norms_are_those_of_python_integers(matrices, chunk):
    for x in (matrices[0], matrices[0].t(), matrices[1]):
        codes = x if x.dtype == torch.int8 else x.to(torch.int32)
        squares, sums, largest = chunk_norms(codes.numpy(), chunk)
        for row, values in enumerate(x.tolist()):
            chunks = [values[i : i + chunk] for i in range(0, len(values), chunk)] or [[]]
            assert squares[row] == max(sum(v * v for v in part) for part in chunks)
            assert sums[row] == max(sum(abs(v) for v in part) for part in chunks)
            assert largest[row] == max((abs(v) for v in values), default=0)


@pytest.mark.parametrize("rows", [511, 512, 513, 1100])
def test_norms_of_many_rows_in_either_layout(rows):
    x = torch.randint(-128, 128, (rows, 70), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    transposed = x.t().contiguous().t()
    for chunk in (16, 70):
        for row_major, column_major in zip(
            chunk_norms(x.numpy(), chunk), chunk_norms(transposed.numpy(), chunk), strict=True
        ):
            assert (row_major == column_major).all()
    assert (chunk_norms(x.numpy(), 70)[1] == x.to(torch.int64).abs().sum(1).numpy()).all()


@pytest.mark.parametrize("chunk", [5000, 131_072, 300_000])
def test_norms_of_long_chunks(chunk):
    """More than one piece each, and sums of squares that leave int32."""
    x = torch.full((2, 300_000), -128, dtype=torch.int8)
    x[1, ::2] = 3
    for layout in (x, x.t().contiguous().t()):
        squares, sums, largest = chunk_norms(layout.numpy(), chunk)
        assert squares.tolist() == [chunk << 14, (chunk << 14) // 2 + 9 * chunk // 2]
        assert sums.tolist() == [chunk << 7, (chunk << 7) // 2 + 3 * chunk // 2]
        assert largest.tolist() == [128, 128]


@given(matrices=operands(), chunk=st.integers(1, 12))
def test_norms_on_a_device_are_the_compiled_ones(matrices, chunk):
    for x in (matrices[0], matrices[0].t(), matrices[1]):
        if not x.numel():
            continue
        codes = x if x.dtype == torch.int8 else x.to(torch.int32)
        for found, expected in zip(_integer_norms(x, chunk), chunk_norms(codes.numpy(), chunk), strict=True):
            assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_norms_on_a_device_take_some_rows_at_a_time(monkeypatch, rows_at_once):
    x = torch.randint(-128, 128, (7, 10), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("lowbit_sim.arith.bounds._WIDENED", 10 * rows_at_once)
    for found, expected in zip(_norms_on_device(x, 4), _norms(x, 4), strict=True):
        assert torch.equal(found, expected)


def test_magnitudes_of_several():
    x, y = torch.tensor([[3, -7]], dtype=torch.int8), torch.tensor([[200]], dtype=torch.uint8)
    assert magnitudes(x, y) == [7, 200] == [magnitude(x), magnitude(y)]
