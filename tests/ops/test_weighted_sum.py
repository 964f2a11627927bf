"""The addition behind a product: torch's values, and one pass on record for each tensor that is made."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.ops.weighted_sum import weighted_sum
from tests.ops.cases import reals


@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (2, 1), (1, 0.5), (0, 1), (0, 3), (2, 3)])
def test_values(beta: float, alpha: float) -> None:
    x, y = reals(0, 4), reals(1, 3, 4)
    assert torch.equal(weighted_sum(x, y, beta, alpha, ""), beta * x + alpha * y)


def test_with_beta_0_the_addend_does_not_count() -> None:
    y = reals(1, 3, 4)
    assert torch.equal(weighted_sum(torch.full((4,), torch.nan), y, 0, 1, ""), y)


@pytest.mark.parametrize(
    ("shape", "beta", "alpha", "forward", "backward"),
    [
        ((3, 4), 1, 1, [(96, 48)], []),  # g is passed on to both
        ((4,), 1, 1, [(64, 48)], [(48, 16)]),  # a broadcast addend's gradient is summed
        ((3, 4), 2, 1, [(96, 48)], [(48, 48)]),
        ((3, 4), 2, 3, [(96, 48)], [(48, 48), (48, 48)]),
        ((3, 4), 0, 3, [(48, 48)], [(48, 48)]),
        ((3, 4), 0, 1, [], []),
    ],
)
def test_passes_by_hand(shape, beta, alpha, forward, backward) -> None:
    x, y = reals(0, *shape).requires_grad_(), reals(1, 3, 4).requires_grad_()
    with lb.record() as trace:
        total = weighted_sum(x, y, beta, alpha, "fc")
    assert [(e.read_bytes, e.write_bytes) for e in trace.vectors] == forward
    assert {e.layer for e in trace.vectors} <= {"fc"}
    with lb.record() as trace:
        total.sum().backward()
    assert [(e.read_bytes, e.write_bytes) for e in trace.vectors] == backward
