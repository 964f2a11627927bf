"""The largest magnitudes of rows, of pieces of rows and of columns."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from lowbit_sim.numerics.absmax_kernel import INFINITY_BITS, PIECE, column_maxima, row_maxima

BITS = st.one_of(
    st.sampled_from([0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000]),
    st.integers(0, 0x7FFFFFFF),
)


def slow_row_maxima(bits: np.ndarray, length: int, size: int) -> list[list[int]]:
    rows = [bits[i : i + length] & 0x7FFFFFFF for i in range(0, bits.size, length)]
    return [[int(row[i : i + size].max()) for i in range(0, length, size)] for row in rows]


@given(rows=st.integers(1, 4), length=st.integers(1, 40), size=st.integers(1, 40), data=st.data())
def test_rows_in_pieces(rows: int, length: int, size: int, data) -> None:
    size = min(size, length)
    magnitudes = data.draw(st.lists(BITS, min_size=rows * length, max_size=rows * length))
    signs = np.arange(rows * length) % 3 == 0
    bits = np.array(magnitudes, dtype=np.int64) | np.where(signs, 1 << 31, 0)
    bits = bits.astype(np.uint32).view(np.int32)
    assert row_maxima(bits, length, size).tolist() == slow_row_maxima(bits, length, size)


@pytest.mark.parametrize("length", [2, 9, 16, 24, 32, 48, 255, 256, 257, PIECE + 1])
@pytest.mark.parametrize("size", [2, 16, 32, 100, 300])
def test_long_tensors(length: int, size: int) -> None:
    size = min(size, length)
    x = np.random.default_rng(length).standard_normal(length * (3 * PIECE // length + 2)).astype(np.float32)
    bits = x.view(np.int32)
    assert row_maxima(bits, length, size).tolist() == slow_row_maxima(bits, length, size)


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 3])
def test_the_last_row_of_one_piece_may_be_shorter(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    found = row_maxima(x.view(np.int32), PIECE, PIECE)
    assert found.max() == np.abs(x).max().view(np.int32)
    assert found.size == -(-size // PIECE)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 7), (9, 1), (100, 3), (40, 1000), (3, PIECE + 5)])
def test_columns(rows: int, width: int) -> None:
    x = np.random.default_rng(width).standard_normal((rows, width)).astype(np.float32)
    found = column_maxima(x.reshape(-1).view(np.int32), width)
    np.testing.assert_array_equal(found.view(np.float32), np.abs(x).max(0))


def test_infinity_is_above_every_number_and_nan_above_infinity() -> None:
    for value, position in ((np.inf, 0), (-np.inf, 5), (np.nan, 9), (-np.nan, 3)):
        x = np.full(10, 3.4e38, dtype=np.float32)
        x[position] = value
        found = int(row_maxima(x.view(np.int32), 10, 10)[0, 0])
        assert (found == INFINITY_BITS) == np.isinf(value)
        assert (found > INFINITY_BITS) == np.isnan(value)


@pytest.mark.usefixtures("torch_threads")
def test_threads_share_the_work_and_change_nothing() -> None:
    x = np.random.default_rng(0).standard_normal(40 * PIECE).astype(np.float32).view(np.int32)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(row_maxima(x, 64, 32))
    np.testing.assert_array_equal(*found)
