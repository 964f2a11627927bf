"""BHQ's transform: its groups, its matrix, and that it undoes itself."""

import math

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.quant.householder import row_groups
from tests.quant.cases import normal


def with_ranges(ranges: list[float]) -> np.ndarray:
    """Rows of two elements, 0 and a range."""
    return np.array([[0.0, r] for r in ranges])


def groups(ranges: list[float]) -> list[list[int]]:
    return [g.rows.tolist() for g in row_groups(with_ranges(ranges))]


def test_groups_by_hand() -> None:
    # One outlier takes all others; two equal ones share them; equal rows are paired one to one.
    assert groups([1.0, 100.0, 1.0, 1.0]) == [[1, 0, 2, 3]]
    # Shares of the other four: 4 * 100 / 200 = 2 each.
    assert groups([1.0, 100.0, 2.0, 100.0, 3.0, 4.0]) == [[1, 5, 4], [3, 2, 0]]
    assert groups([5.0, 5.0, 5.0, 5.0]) == [[0, 2], [1, 3]]
    # 3 * 60 / 100 = 1.8 and 3 * 40 / 100 = 1.2: the running sums 1.8 and 3 are rounded to 2 and 3.
    assert groups([60.0, 40.0, 1.0, 1.0, 1.0]) == [[0, 2, 3], [1, 4]]
    assert groups([0.0, 0.0, 0.0]) == [[0], [1], [2]]
    assert groups([3.0]) == [[0]]
    assert groups([3.0, 0.0]) == [[0, 1]]


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_the_authors(seed: int) -> None:
    """The rule as the authors' code walks it: from the smallest row on, until the last head's share is 1."""
    x = normal((3 + 5 * seed, 20), seed=seed, spread=1.5).double().numpy()
    ranges = np.sort(x.max(1) - x.min(1))[::-1]
    count, left, total = len(ranges), 0, ranges.sum()
    while True:
        left += 1
        total -= ranges[count - left]
        if left * ranges[count - left - 1] / total >= 1:
            break
    found = row_groups(x)
    assert len(found) == count - left
    sizes = np.cumsum([len(g.rows) - 1 for g in found])
    expected = np.round(np.cumsum(left * ranges[: count - left] / ranges[: count - left].sum()))
    np.testing.assert_array_equal(sizes, expected)
    assert sorted(i for g in found for i in g.rows) == list(range(count))


def matrix_of(transform_input: np.ndarray) -> np.ndarray:
    """S as a dense matrix, group by group, from the formula."""
    count = len(transform_input)
    s = np.eye(count)
    for group in row_groups(transform_input):
        n = len(group.rows)
        if n == 1:
            continue
        v = np.full(n, 1 / math.sqrt(n)) - np.eye(n)[0]
        q = np.eye(n) - 2 * np.outer(v, v) / (v @ v)
        np.testing.assert_allclose(q @ np.eye(n)[0], np.full(n, 1 / math.sqrt(n)), atol=1e-12)
        np.testing.assert_allclose(q @ q, np.eye(n), atol=1e-12)
        ranges = np.ptp(transform_input[group.rows], axis=1)
        weights = [ranges[0] / math.sqrt(n), ranges[1:].max() * np.abs(q).max() / (n - 1)]
        ratio = (weights[1] / weights[0]) ** (-1 / 3)
        assert group.ratio == pytest.approx(ratio, rel=1e-12)
        s[np.ix_(group.rows, group.rows)] = q @ np.diag([1.0] + [ratio] * (n - 1))
    return s


@pytest.mark.parametrize("rows", [2, 3, 9, 32])
def test_the_transform_is_its_matrix(rows: int) -> None:
    x = normal((rows, 40), seed=rows, spread=1.0)
    x[1] *= 300
    transformed, rhs, undo = lb.HouseholderTransform().forward(x, torch.ones(40, 3))
    s = matrix_of(x.double().numpy())
    expected = s @ x.double().numpy()
    np.testing.assert_allclose(transformed.numpy(), expected, rtol=2e-7, atol=1e-6 * np.abs(expected).max())
    assert torch.equal(rhs, torch.ones(40, 3))
    y = normal((rows, 5), seed=1)
    np.testing.assert_allclose(undo(y).numpy(), np.linalg.solve(s, y.double().numpy()), rtol=1e-6, atol=1e-6)


def test_the_product_is_left_as_it_is() -> None:
    x, w = normal((32, 64), seed=3), normal((64, 8), seed=4)
    x[7] *= 1000
    a, b, undo = lb.HouseholderTransform().forward(x, w)
    exact = x.double() @ w.double()
    error = (undo((a.double() @ b.double()).float()).double() - exact).abs().amax(1)
    # float32 rounds the transformed rows at the outlier's magnitude over sqrt(n).
    assert (error < 1e-5 * exact.abs().amax()).all()


def test_rows_of_zeros_and_constant_rows() -> None:
    x = torch.zeros(4, 6)
    a, _, undo = lb.HouseholderTransform().forward(x, torch.ones(6, 1))
    assert torch.equal(a, x)
    assert torch.equal(undo(a), x)
    x[2] = normal((6,), seed=5)
    a, _, undo = lb.HouseholderTransform().forward(x, torch.ones(6, 1))
    assert torch.isfinite(a).all()
    assert torch.allclose(undo(a), x, atol=1e-7)
    assert lb.HouseholderTransform().forward(torch.empty(0, 4), torch.ones(4, 1))[0].shape == (0, 4)


def test_infinities_are_refused_and_nan_is_left_to_the_quantiser() -> None:
    x = torch.ones(3, 4)
    x[0, 1] = -math.inf
    with pytest.raises(ValueError, match="1 of the 12 elements of lhs are infinite"):
        lb.HouseholderTransform().forward(x, torch.ones(4, 1))
    x[0, 1] = math.nan
    assert torch.isnan(lb.HouseholderTransform().forward(x, torch.ones(4, 1))[0]).any()


def test_a_transform_is_printable_and_comparable() -> None:
    assert str(lb.HouseholderTransform()) == "householder"
    assert str(lb.HadamardTransform(32)) == "hadamard 32"
    assert lb.HouseholderTransform() == lb.HouseholderTransform()
