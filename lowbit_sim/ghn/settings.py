"""What the training of a hypernetwork needs to be told: Adam over meta-batches, its rate divided at milestones.

The defaults are GHN-2's (Knyazev et al. 2021) but for the number of steps: Adam, 1e-3, weight decay 1e-5, a tenth of
the rate from two thirds and again from five sixths of the training on, eight networks, 64 images, gradients clipped
to a norm of 5, no meta-batch of more than 2,200 nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import Adam

#: By which the rate is divided at each milestone.
DECAY = 10


@dataclass(frozen=True, kw_only=True)
class MetaSettings:
    """Hyperparameters of a run.

    Args:
        epochs: Stretches of training, at the end of each of which it is reported and its state is kept.
        steps_per_epoch: Updates of an epoch.
        meta_batch: Networks of an update.
        batch_size: Images of an update, the same for all its networks.
        learning_rate: Adam's.
        weight_decay: Adam's L2 penalty.
        milestones: Shares of the training after which the rate is divided by 10.
        gradient_norm: The gradient's L2 norm is clipped to this.
        node_limit: Most nodes of a meta-batch; networks that would go beyond it are left out of it.
        seed: Of the hypernetwork's weights, of the order of networks and images, and of noise.

    Raises:
        ValueError: A value outside its range.
    """

    epochs: int
    steps_per_epoch: int
    meta_batch: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    milestones: tuple[float, ...] = (2 / 3, 5 / 6)
    gradient_norm: float = 5.0
    node_limit: int = 2200
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"epochs": 1, "steps_per_epoch": 1, "meta_batch": 1, "batch_size": 2, "node_limit": 1}
        for name, least in {**lowest, "weight_decay": 0, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("learning_rate", "gradient_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not all(0 < each < 1 for each in self.milestones):
            raise ValueError(f"milestones are shares of the training between 0 and 1, got {self.milestones}")

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        return self.epochs * self.steps_per_epoch


def learning_rate(settings: MetaSettings, step: int) -> float:
    """The rate of an update, counted from 0."""
    passed = sum(step >= milestone * settings.steps for milestone in settings.milestones)
    return settings.learning_rate / DECAY**passed


def build_optimizer(hypernetwork: nn.Module, settings: MetaSettings) -> Adam:
    """Adam over the hypernetwork's parameters."""
    return Adam(
        hypernetwork.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        foreach=False,
    )
