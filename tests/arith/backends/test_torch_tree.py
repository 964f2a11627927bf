"""The tree of adders by torch's operations; `tests/contract` compares it with the reference."""

import pytest
import torch

from lowbit_sim.arith.backends import torch_tree
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from tests.arith.strategies import random_table

TREE = MacUnit(accumulator_bits=12, overflow="saturate", order="tree", chunk=5, outer_bits=14)


@pytest.mark.parametrize("rows_at_once", [1, 2, 7])
def test_rows_can_be_taken_apart(monkeypatch, rows_at_once):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (7, 23), dtype=torch.int8, generator=generator)
    b = torch.randint(-128, 128, (23, 4), dtype=torch.int8, generator=generator)
    expected = run_gemm(a, b, TREE, backend="reference")
    assert expected.overflows
    monkeypatch.setattr(torch_tree, "_PRODUCTS", 5 * 4 * rows_at_once)
    result = run_gemm(a, b, TREE, backend="torch_tree")
    assert torch.equal(result.values, expected.values)
    assert result.overflows == expected.overflows


def test_a_reason_for_every_refusal():
    a = torch.ones(2, 9, dtype=torch.int32)
    assert "which this unit does not" in str(torch_tree.why_not(MacUnit(), a, a.t(), True))
    table = MacUnit(order="tree", products=random_table(3, True, 9, 0))
    assert "products come from the table" in str(torch_tree.why_not(table, a, a.t(), True))
    long = torch.empty(1, 1 << 30, dtype=torch.int32, device="meta")
    assert "may leave an int64 lane" in str(torch_tree.why_not(TREE, long, long.t(), True))
