"""The linear operator: exact with wide formats, torch's own without emulation, in the contract's order."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import lowbit_sim as lb
from lowbit_sim.arith.backends import reference
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.linear import linear
from tests.ops.cases import NATIVE, ROLES, codes_spec, integers, only, reals, run_linear


@pytest.mark.parametrize("batch", [(), (1,), (6,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("bias", [None, integers(3, 4, largest=99)], ids=["without bias", "bias"])
def test_integers_give_the_exact_product(batch, bias) -> None:
    x, w, g = integers(0, *batch, 5), integers(1, 4, 5), integers(2, *batch, 4)
    output, grad_input, grad_weight = run_linear(x, w, g, codes_spec(), bias)
    rows, gradients = x.reshape(-1, 5).long(), g.reshape(-1, 4).long()
    expected = (rows @ w.long().t()).reshape(*batch, 4)
    assert torch.equal(output.long(), expected + (0 if bias is None else bias.long()))
    assert torch.equal(grad_input.long(), (gradients @ w.long()).reshape(x.shape))
    assert torch.equal(grad_weight.long(), gradients.t() @ rows)


def test_torch_agrees_in_float64() -> None:
    x, w, g, bias = integers(0, 7, 30), integers(1, 11, 30), integers(2, 7, 11), integers(3, 11)
    wide, weight = x.double().requires_grad_(), w.double().requires_grad_()
    y = F.linear(wide, weight, bias.double())
    expected = (y, *torch.autograd.grad(y, (wide, weight), g.double()))
    for mine, theirs in zip(run_linear(x, w, g, codes_spec(), bias), expected, strict=True):
        assert torch.equal(mine.double(), theirs)


def test_native_gemms_are_torch() -> None:
    x, w, g, bias = reals(0, 7, 30), reals(1, 11, 30), reals(2, 7, 11), reals(3, 11)
    expected = (x.double() @ w.double().t() + bias, g.double() @ w.double(), g.double().t() @ x.double())
    for mine, theirs in zip(run_linear(x, w, g, NATIVE, bias), expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("role", ROLES)
def test_each_gemm_switched_alone_changes_its_own_result_only(role) -> None:
    x, w, g = reals(0, 7, 30), reals(1, 11, 30), reals(2, 7, 11)
    native = run_linear(x, w, g, NATIVE)
    emulated = run_linear(x, w, g, only(role, codes_spec()))
    for name, before, after in zip(ROLES, native, emulated, strict=True):
        assert torch.equal(before, after) == (name != role)


def test_bias_gets_the_gradient_of_a_sum() -> None:
    x, w, g = integers(0, 2, 3, 5), integers(1, 4, 5), integers(2, 2, 3, 4)
    bias = integers(3, 4).requires_grad_()
    [grad] = torch.autograd.grad(linear(x, w, bias, codes_spec()), bias, g)
    assert torch.equal(grad, g.sum((0, 1)))


@pytest.mark.parametrize(
    "mac",
    [
        MacUnit(accumulator_bits=8, overflow="saturate"),
        MacUnit(accumulator_bits=9, overflow="saturate", chunk=4, outer_bits=8),
        MacUnit(accumulator_bits=8, overflow="wrap", chunk=7, outer_bits=12),
    ],
    ids=str,
)
def test_k_ascends_in_all_three_gemms(mac) -> None:
    x, w, g = integers(0, 10, 11), integers(1, 12, 11), integers(2, 10, 12)
    with lb.record() as trace:
        found = run_linear(x, w, g, codes_spec(mac))
    operands = ((x, w.t()), (g, w), (g.t(), x))
    overflows = {}
    for role, mine, (a, b) in zip(ROLES, found, operands, strict=True):
        expected = torch.zeros_like(mine)
        for i, j in itertools.product(*map(range, mine.shape)):
            row, column = a[i].long().tolist(), b[:, j].long().tolist()
            expected[i, j], count = reference.dot(row, column, mac)
            overflows[role] = overflows.get(role, 0) + count
        assert torch.equal(mine, expected)
        backwards = [
            [reference.dot(r[::-1], c[::-1], mac)[0] for c in b.t().long().tolist()]
            for r in a.long().tolist()
        ]
        assert not torch.equal(torch.tensor(backwards).float(), expected), "the order would not show"
    assert {e.role: e.overflows for e in trace.gemms} == overflows
