"""What a training run tells: the metrics of an epoch, and how the run went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lowbit_sim.nn.counts import GemmCounts
from lowbit_sim.ops.counts import OperandCounts

Status = Literal["completed", "diverged"]


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One pass over the training examples and the evaluation after it.

    Attributes:
        epoch: Number of the epoch, from 0.
        learning_rate: At the epoch's last step.
        train_loss, train_accuracy: Mean over the examples, each as it was when its step ran.
        test_loss, test_accuracy: After the epoch.
        additions: Accumulator additions of the emulated GEMMs in the epoch's first step.
        overflows: How many of those overflowed; None where a GEMM did not count.
        seconds: Wall-clock time of the epoch with its evaluation.
        operands: Operands that were quantised in the epoch's steps that counted: their elements, how many were
            clipped and how many became zero.
        gemms: What each GEMM of each emulated layer lost in the epoch's steps that counted, the first one among them.
        measurements: What the recipes measured, as of the epoch's end, by "<name of the recipe>.<name>".
        steps: Training steps of the epoch; 0 in a record of a time before they were counted.
        energy_j: Energy of the device in the epoch's training steps; None where it is not measured.
        peak_memory_bytes: The most that the steps' tensors held on the device at once; None where not measured.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    additions: int
    overflows: int | None
    seconds: float
    operands: OperandCounts = OperandCounts(elements=0)
    gemms: tuple[GemmCounts, ...] = ()
    measurements: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    energy_j: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run went.

    Attributes:
        status: "completed", or "diverged" where it stopped early.
        reason: Why it stopped early, or "".
        epochs: The metrics of the epochs that ended.
        step_seconds: Time of every step (forward, backward, update), in order; see `step_clock`.
    """

    status: Status
    reason: str
    epochs: tuple[EpochMetrics, ...]
    step_seconds: tuple[float, ...]


def epoch_metrics(values: Mapping[str, Any]) -> EpochMetrics:
    """The metrics whose `dataclasses.asdict` is given; an older record may lack the last keys."""
    nested: dict[str, Any] = {}
    if "operands" in values:
        nested["operands"] = OperandCounts(**values["operands"])
    nested["gemms"] = tuple(_gemm_counts(gemm) for gemm in values.get("gemms", ()))
    return EpochMetrics(**{**values, **nested})


def _gemm_counts(values: Mapping[str, Any]) -> GemmCounts:
    sides = {side: values[side] and OperandCounts(**values[side]) for side in ("lhs", "rhs")}
    return GemmCounts(**{**values, **sides})
