"""Sums in a fixed order, against the definition written as a loop, and the exact sum."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.quant.sums import row_means, row_sums


def tree_sum(values: list[float]) -> float:
    while len(values) > 1:
        values = values + [0.0] * (len(values) % 2)
        half = len(values) // 2
        values = [values[i] + values[half + i] for i in range(half)]
    return values[0] if values else 0.0


ROWS = st.integers(0, 33).flatmap(
    lambda n: st.lists(
        st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=n, max_size=n), min_size=1, max_size=3
    )
)


@given(ROWS)
def test_a_row_is_summed_as_a_tree(values: list[list[float]]) -> None:
    x = torch.tensor(values, dtype=torch.float32).reshape(len(values), -1)
    assert row_sums(x).tolist() == [tree_sum(row) for row in values]


def test_the_sum_is_close_to_the_exact_one() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 100_003)).astype(np.float32))
    for found, row in zip(row_sums(x).tolist(), x.tolist(), strict=True):
        assert found == pytest.approx(math.fsum(row), rel=1e-13)


def test_means_divide_by_the_length() -> None:
    assert row_means(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 1.0]])).tolist() == [3.0, 1 / 3]
