"""A bias costs an addition forward and the sum of its gradient backward."""

import pytest
import torch
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.ops.bias import add_bias
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.conv_transpose import conv_transpose
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.linear import linear
from lowbit_sim.ops.operand import CallSite
from tests.ops.cases import NATIVE, reals

AT = CallSite(layer="head")
WINDOW = Window(kernel=(2, 3))
X, W, TRANSPOSED = reals(0, 2, 3, 4, 5), reals(1, 5, 3, 2, 3), reals(2, 3, 5, 2, 3)

#: Operator with 5 output channels: (call, elements of its result).
OPERATORS = {
    "linear": (lambda bias, spec: linear(reals(3, 2, 4, 6), reals(4, 5, 6), bias, spec, AT), 2 * 4 * 5),
    "conv": (lambda bias, spec: conv(X, W, bias, WINDOW, spec, AT), 2 * 5 * 3 * 3),
    "transposed": (
        lambda bias, spec: conv_transpose(X, TRANSPOSED, bias, WINDOW, (0, 0), spec, AT),
        2 * 5 * 5 * 7,
    ),
}
SPECS = {"native": NATIVE, "int8": lb.OpSpec.uniform(lb.INT8)}


def additions(trace: lb.WorkloadTrace) -> list[tuple[int, int, int]]:
    found = [e for e in trace.vectors if e.kind == "activation"]
    assert all((e.layer, e.role, e.kept_bytes) == ("head", "overhead", 0) for e in found)
    return [(e.elements, e.read_bytes, e.write_bytes) for e in found]


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "fixed"])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_passes_by_hand(operator: str, spec: str, trained: bool) -> None:
    call, n = OPERATORS[operator]
    bias = torch.ones(5, requires_grad=trained)
    with lb.record() as trace:
        y = call(bias, SPECS[spec])
        if trained:
            y.sum().backward()
    assert additions(trace) == [(n, 4 * n, 4 * n), *([(n, 4 * n, 4 * 5)] if trained else [])]


@pytest.mark.parametrize("operator", OPERATORS)
def test_without_a_bias_nothing_is_added(operator: str) -> None:
    with lb.record() as trace:
        OPERATORS[operator][0](None, NATIVE)
    assert additions(trace) == []


def test_a_bias_that_is_not_trained_has_no_gradient_to_sum() -> None:
    y: Tensor = reals(0, 2, 5).requires_grad_()
    with lb.record() as trace:
        add_bias(y, torch.ones(5), 0, "head").sum().backward()
    assert additions(trace) == [(10, 40, 40)]


def test_along_the_channels() -> None:
    y, bias = reals(0, 2, 5, 3), reals(1, 5)
    assert torch.equal(add_bias(y, bias, 1, ""), y + bias[None, :, None])
    assert add_bias(y, None, 1, "") is y
