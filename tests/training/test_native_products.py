"""What native products are billed beside their GEMMs."""

import torch
from torch import Tensor, nn

from lowbit_sim.training.workload import trace_training_step


class Added(nn.Module):
    """beta c + alpha a b, with c [4, 5] as a parameter."""

    def __init__(self, beta: float, alpha: float) -> None:
        super().__init__()
        self.weight, self.addend = nn.Parameter(torch.zeros(3, 5)), nn.Parameter(torch.zeros(4, 5))
        self.beta, self.alpha = beta, alpha

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.addend, x, self.weight, beta=self.beta, alpha=self.alpha)


def passes(beta: float, alpha: float) -> list[tuple[int, int]]:
    model = Added(beta, alpha)
    x, targets = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    trace = trace_training_step(model, x, targets, torch.optim.SGD(model.parameters(), lr=0.1))
    assert [e.role for e in trace.gemms] == ["output", "grad_weight"]
    return [(e.read_bytes, e.write_bytes) for e in trace.vectors if e.kind == "activation"]


def test_the_addition_of_a_native_addmm_is_a_pass() -> None:
    size = 4 * 4 * 5
    assert passes(1, 1) == [(2 * size, size)]  # the gradient is passed on as it is
    assert passes(1, 2) == [(2 * size, size), (size, size)]
    assert passes(0, 1) == []
