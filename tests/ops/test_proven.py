"""Codes whose sums are proven to fit."""

import torch

import lowbit_sim as lb
from lowbit_sim.ops.operand import Operands
from lowbit_sim.ops.proven import codes_of
from lowbit_sim.quant.qtensor import QTensor

SPEC = lb.GemmSpec(lb.Quantizer(lb.INT8), lb.Quantizer(lb.INT8))


def operand(codes: torch.Tensor) -> Operands:
    return Operands((QTensor(codes=codes, scale=torch.ones(1, 1), format=lb.INT8),))


def test_codes_are_contiguous_whatever_the_tensors_are() -> None:
    codes = torch.arange(-6, 6, dtype=torch.int8).reshape(3, 4)
    found = codes_of(SPEC, operand(codes.t()), operand(codes[:1].expand(3, 4)), reduction=3)
    assert found is not None
    left, right = found
    assert left.codes.is_contiguous()
    assert torch.equal(left.codes, codes.t())
    assert right.codes.is_contiguous()
    assert torch.equal(right.codes, codes[:1].expand(3, 4))
    assert left.largest == right.largest == 127
