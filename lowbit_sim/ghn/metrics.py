"""What the training of a hypernetwork tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lowbit_sim.training.metrics import Status


@dataclass(frozen=True, kw_only=True)
class MetaEpoch:
    """Some updates.

    Attributes:
        epoch: Its number, from 0.
        learning_rate: At its last update.
        train_loss: Mean over its updates, each over its networks and images.
        train_accuracy: The same of the share of images that the networks had right as they trained.
        gradient_norm: Mean norm of the hypernetwork's gradient before it was clipped.
        steps: Updates.
        seconds: Wall-clock time.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    gradient_norm: float
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MetaResult:
    """How a run went.

    Attributes:
        status: "completed", or "diverged" where it stopped early.
        reason: Why it stopped early, or "".
        epochs: Those that ended.
    """

    status: Status
    reason: str
    epochs: tuple[MetaEpoch, ...]


def meta_epoch(values: Mapping[str, Any]) -> MetaEpoch:
    """The epoch of a record's table; what a newer version added is left out."""
    return MetaEpoch(**{field.name: values[field.name] for field in fields(MetaEpoch)})
