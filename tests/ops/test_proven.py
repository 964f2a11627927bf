"""Codes whose sums are proven to fit."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.ops.backend import using_backend
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.im2col import Window
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


@pytest.mark.parametrize(("bits", "direct"), [(2, True), (7, True), (8, False)])
def test_unsigned_codes_that_int8_holds_take_the_direct_way(bits: int, direct: bool) -> None:
    fmt = lb.IntFormat(bits=bits, signed=False, symmetric=False)
    codes = torch.arange(1 << bits, dtype=torch.uint8).reshape(2, -1)
    left = Operands((QTensor(codes=codes, scale=torch.ones(1, 1), format=fmt),))
    right = operand(torch.ones(codes.shape[1], 3, dtype=torch.int8))
    spec = lb.GemmSpec(lb.Quantizer(fmt), lb.Quantizer(lb.INT8))
    found = codes_of(spec, left, right, reduction=codes.shape[1])
    assert (found is not None) == direct
    if found is not None:
        assert found[0].codes.dtype == torch.int8
        assert found[0].codes.tolist() == codes.tolist()
        assert found[0].largest == (1 << bits) - 1


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 7, 8])
def test_affine_inputs_have_the_bits_of_the_reference(bits: int, signed: bool) -> None:
    """Whichever way the codes take: a convolution of affine inputs against the reference backend, with ==."""
    scale = lb.MinMaxScale() if signed else lb.AbsMaxScale()
    fmt = lb.IntFormat(bits=bits, signed=False, symmetric=False)
    spec = lb.GemmSpec(lb.Quantizer(fmt, scale=scale), lb.Quantizer(lb.INT4))
    layer = lb.OpSpec(output=spec, grad_input=None, grad_weight=None)
    generator = torch.Generator().manual_seed(bits)
    x = torch.randn(2, 3, 5, 5, generator=generator)
    x, weight = x if signed else x.relu(), torch.randn(4, 3, 3, 3, generator=generator)
    window = Window(kernel=(3, 3), padding=(1, 1, 1, 1))
    fast = conv(x, weight, None, window, layer)
    with using_backend("reference"):
        slow = conv(x, weight, None, window, layer)
    assert torch.equal(fast, slow)
