"""How the hypernetwork's own parameters (phi) are trained: their optimiser and its schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.training.optimizers import SGD, Adam
from lowbit_sim.training.update_spec import UpdateSpec

PhiOptimizerName = Literal["adam", "sgd"]
Schedule = Literal["base", "constant"]


@dataclass(frozen=True, kw_only=True)
class PhiTraining:
    """How phi is trained.

    Args:
        learning_rate: Positive, or 0 to keep phi as it is.
        optimizer: "adam" (beta 0.9 and 0.999, as in MetaQuant's code) or "sgd" without momentum.
        schedule: "base" scales phi's learning rate as the model's own, which counts from its largest so far;
            "constant" leaves it.
        update: Formats in which phi and its optimiser's state are kept; None for float32.

    Raises:
        ValueError: A value outside its range, or an unknown name.
    """

    learning_rate: float = 1e-3
    optimizer: PhiOptimizerName = "adam"
    schedule: Schedule = "base"
    update: UpdateSpec | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(
                f"the hypernetwork's learning_rate must be at least 0 and finite, got {self.learning_rate}"
            )
        if self.optimizer not in get_args(PhiOptimizerName):
            raise ValueError(
                unknown("optimizer of the hypernetwork", self.optimizer, get_args(PhiOptimizerName))
            )
        if self.schedule not in get_args(Schedule):
            raise ValueError(unknown("schedule of the hypernetwork", self.schedule, get_args(Schedule)))

    def build(self, hypernetwork: nn.Module, seed: int) -> Optimizer:
        """The optimiser."""
        parameters, lr = hypernetwork.parameters(), self.learning_rate
        if self.update is not None:
            kind = Adam if self.optimizer == "adam" else SGD
            return kind(parameters, lr=lr, update=self.update, seed=seed)
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=lr)
        return torch.optim.SGD(parameters, lr=lr)

    def rate(self, base: float, largest_base: float) -> float:
        """phi's learning rate in a step.

        Args:
            base: The model's learning rate in the step.
            largest_base: Its largest so far.
        """
        if self.schedule == "constant" or largest_base == 0:
            return self.learning_rate
        return self.learning_rate * base / largest_base


def optimizer_state(optimizer: Optimizer, hypernetwork: nn.Module) -> dict[str, dict[str, Any]]:
    """What an optimiser keeps of each of phi's tensors, by the tensor's name; tensors are copied."""
    return {
        name: {key: value.clone() if isinstance(value, Tensor) else value for key, value in kept.items()}
        for name, p in hypernetwork.named_parameters()
        if (kept := optimizer.state.get(p))
    }


def load_optimizer_state(
    optimizer: Optimizer, hypernetwork: nn.Module, state: dict[str, dict[str, Any]]
) -> None:
    """Put back what `optimizer_state` gave."""
    named = dict(hypernetwork.named_parameters())
    optimizer.state.clear()
    for name, kept in state.items():
        p = named[name]
        optimizer.state[p] = {
            key: value.to(p.device if value.ndim else value.device).clone()
            if isinstance(value, Tensor)
            else value
            for key, value in kept.items()
        }
