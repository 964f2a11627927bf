"""What plain training needs to be told: an optimiser, its hyperparameters and a schedule.

    constant: lr_t = lr            cosine: lr_t = lr (1 + cos(pi t / T)) / 2

at step t of T. Source of the cosine: Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5 without restarts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.training.autocast import Autocast
from lowbit_sim.training.optimizers import SGD, Adam, AdamW
from lowbit_sim.training.update_spec import UpdateSpec

Schedule = Literal["constant", "cosine"]
OptimizerName = Literal["sgd", "adam", "adamw"]

#: torch's optimiser of a name, and ours, which keeps weights and states in formats.
_OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], Callable[..., torch.optim.Optimizer]]] = {
    "sgd": (torch.optim.SGD, SGD),
    "adam": (torch.optim.Adam, Adam),
    "adamw": (torch.optim.AdamW, AdamW),
}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Hyperparameters of a run.

    Args:
        epochs: Passes over the training examples, at least 1.
        batch_size: Examples in a step, at least 1; the last step of an epoch may have fewer.
        learning_rate: The schedule's largest value, positive.
        optimizer: "sgd", "adam" or "adamw".
        momentum: Factor of the running mean of the gradient (Adam's beta_1), at least 0 and below 1.
        second_moment_decay: Factor of the running mean of its square (Adam's beta_2), at least 0 and below 1; SGD has
            none.
        weight_decay: L2 penalty, with AdamW decoupled; at least 0.
        schedule: "constant" or "cosine" (to 0 over the whole run).
        accumulation: Micro-batches that a step's examples are divided into, at most `batch_size`; their gradients are
            added up before the update. Batch normalisation sees micro-batches.
        seed: Seed of the order of the examples, of torch's generator during the run, and of the random bits of a
            low-precision update.
        update: The formats of the weight update; None for torch's own in float32.
        autocast: "bf16" or "fp16" for forward passes under `torch.autocast`, in which products are in that format and
            weights stay in float32, with "fp16" also for a scaled loss; None for all in the tensors' own format.
        tf32: Whether float32 products of a CUDA device are those of TF32.
        recalibration_batches: Training batches whose statistics batch-norms take in a second evaluation after each
            epoch (`recalibration.py`), which gives the measurements `recalibrated_loss` and
            `recalibrated_accuracy`; 0 for none.

    Raises:
        ValueError: A value outside its range.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    second_moment_decay: float = 0.999
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    accumulation: int = 1
    seed: int = 0
    update: UpdateSpec | None = None
    autocast: Autocast | None = None
    tf32: bool = False
    recalibration_batches: int = 0

    def __post_init__(self) -> None:
        lowest = {"epochs": 1, "batch_size": 1, "weight_decay": 0, "accumulation": 1, "seed": 0}
        lowest |= {"recalibration_batches": 0}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if self.optimizer not in get_args(OptimizerName):
            raise ValueError(unknown("optimizer", self.optimizer, get_args(OptimizerName)))
        for name in ("momentum", "second_moment_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.autocast is not None and self.autocast not in get_args(Autocast):
            raise ValueError(unknown("format of autocast", self.autocast, get_args(Autocast)))
        if self.schedule not in get_args(Schedule):
            raise ValueError(unknown("learning rate schedule", self.schedule, get_args(Schedule)))
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"accumulation must be at most batch_size, which is {self.batch_size}: a step has no more "
                f"micro-batches than examples, got {self.accumulation}"
            )

    @property
    def micro_batch_size(self) -> int:
        """Examples in a micro-batch; a step's last one may have fewer."""
        return math.ceil(self.batch_size / self.accumulation)

    def steps(self, examples: int) -> int:
        """Steps of a whole run over so many training examples."""
        return self.epochs * math.ceil(examples / self.batch_size)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Learning rate at a step (from 0) of a run of `steps` steps."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2


def build_optimizer(
    model: nn.Module, settings: TrainingSettings, without_decay: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The settings' optimiser over the model's parameters, with their hyperparameters and formats.

    Args:
        model: The model.
        settings: The hyperparameters.
        without_decay: Those of its parameters that the weight decay is kept from.
    """
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        options["momentum"] = settings.momentum
    else:
        options["betas"] = (settings.momentum, settings.second_moment_decay)
    native, in_formats = _OPTIMIZERS[settings.optimizer]
    parameters = _groups(model, {id(p) for p in without_decay})
    if settings.update is None:
        return native(parameters, **options)
    return in_formats(parameters, **options, update=settings.update, seed=settings.seed)


def _groups(model: nn.Module, without_decay: set[int]) -> list[dict[str, Any]]:
    """The model's parameters in one group, and those without weight decay in a second one."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [{"params": [p for p in parameters if id(p) not in without_decay]}]
    spared = [p for p in parameters if id(p) in without_decay]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]
