"""The Hadamard transform: against the matrix, exactly where it is exact, and what it leaves of the product."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.numerics.reference import float32
from lowbit_sim.quant.transforms import hadamard
from tests.quant.cases import normal


def hadamard_matrix(block: int) -> list[list[int]]:
    """Sylvester's matrix of +-1: entry (i, j) is -1 to the number of common ones in i and j."""
    return [[(-1) ** (i & j).bit_count() for j in range(block)] for i in range(block)]


@pytest.mark.parametrize("block", [2, 4, 8, 32])
@pytest.mark.parametrize("length", [2, 8, 32, 45])
def test_small_integers_give_the_exact_sums(block: int, length: int) -> None:
    x = torch.from_numpy(np.random.default_rng(block).integers(-50, 50, (3, length)).astype(np.float32))
    found = hadamard(x, block)
    assert found.shape == (3, -(-length // block) * block)
    signs, factor = hadamard_matrix(block), float32(1 / math.sqrt(block))
    padded = torch.nn.functional.pad(x, (0, found.shape[1] - length))
    for row, result in zip(padded.tolist(), found.tolist(), strict=True):
        for start in range(0, len(row), block):
            part = row[start : start + block]
            sums = [sum(s * int(v) for s, v in zip(signs[j], part, strict=True)) for j in range(block)]
            assert result[start : start + block] == [float32(total * factor) for total in sums]


def butterflies(values: list[float]) -> list[float]:
    """The definition, one float32 operation at a time."""
    values, half = list(values), len(values) // 2
    while half:
        for start in range(0, len(values), 2 * half):
            for i in range(start, start + half):
                top, bottom = values[i], values[i + half]
                values[i], values[i + half] = float32(top + bottom), float32(top - bottom)
        half //= 2
    return [float32(v * float32(1 / math.sqrt(len(values)))) for v in values]


@pytest.mark.parametrize("block", [2, 4, 16])
def test_every_operation_is_rounded_once(block: int) -> None:
    x = normal((4, 2 * block), seed=1, spread=3.0)
    found = hadamard(x, block).reshape(-1, block).tolist()
    assert found == [butterflies(row) for row in x.reshape(-1, block).tolist()]


def test_twice_is_once_back() -> None:
    x = normal((5, 64), seed=2)
    for block in (4, 16, 64):
        assert torch.equal(hadamard(hadamard(x.round(), block), block), x.round())
    assert torch.allclose(hadamard(hadamard(x, 32), 32), x, atol=1e-6)


@pytest.mark.parametrize("block", [2, 8, 32])
@pytest.mark.parametrize("k", [32, 45])
def test_the_product_is_left_as_it_is(block: int, k: int) -> None:
    lhs, rhs = normal((6, k), seed=3), normal((k, 7), seed=4)
    a, b, undo = lb.HadamardTransform(block).forward(lhs, rhs)
    assert a.shape == (6, -(-k // block) * block)
    assert b.shape == (-(-k // block) * block, 7)
    found = undo(a.double() @ b.double())
    assert (found - lhs.double() @ rhs.double()).abs().max() < 1e-5


def test_an_outlier_is_spread_over_its_block() -> None:
    x = torch.zeros(1, 64)
    x[0, 5] = 16.0
    found = hadamard(x, 16)
    assert found[0, :16].abs().tolist() == [4.0] * 16
    assert (found[0, 16:] == 0).all()


def test_int4_of_a_matrix_with_outliers_is_nearer_after_the_transform() -> None:
    # What the transform is for.
    x, quantizer = normal((64, 64), seed=5), lb.Quantizer(lb.INT4)
    x[::16, 3] *= 50
    plain = quantizer(x).dequantize() - x
    rotated = hadamard(quantizer(hadamard(x, 32)).dequantize(), 32) - x
    assert (rotated**2).sum() < (plain**2).sum() / 2


@pytest.mark.parametrize("block", [0, 1, 3, 24, 2.0, True, 1 << 17])
def test_a_block_is_a_power_of_two(block) -> None:
    with pytest.raises(ValueError, match="power of two from 2 to 2\\^16"):
        lb.HadamardTransform(block)


def test_infinities_are_refused_and_nan_is_left_to_the_quantiser() -> None:
    x = torch.ones(2, 4)
    x[0, 1] = math.inf
    with pytest.raises(ValueError, match="1 of the 8 elements of lhs are infinite"):
        lb.HadamardTransform(4).forward(x, torch.ones(4, 1))
    with pytest.raises(ValueError, match="1 of the 8 elements of rhs are infinite"):
        lb.HadamardTransform(4).forward(torch.ones(1, 4), x.t())
    x[0, 1] = math.nan
    a, _, _ = lb.HadamardTransform(4).forward(x, torch.ones(4, 1))
    assert torch.isnan(a[0]).all()
    assert not torch.isnan(a[1]).any()


def test_matrix_of_the_tests_is_orthogonal() -> None:
    matrix = hadamard_matrix(8)
    gram = [[sum(Fraction(a * b) for a, b in zip(r, s, strict=True)) for s in matrix] for r in matrix]
    assert gram == [[8 * (i == j) for j in range(8)] for i in range(8)]
