"""Plain supervised training: shuffle, step, evaluate; reproducible to the bit from one seed.

A run that diverges (a loss that is not finite, or a NaN that reaches a quantiser) is a result, not a crash.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from lowbit_sim.nn.counts import GemmCounts, gemm_counts, operand_counts, reset_counts
from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.quant.quantizer import NotANumberError
from lowbit_sim.trace import WorkloadTrace, record
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.examples import Examples, in_order, shuffled
from lowbit_sim.training.recipe import Recipe, Step, compose
from lowbit_sim.training.settings import TrainingSettings, build_optimizer, learning_rate

Status = Literal["completed", "diverged"]

#: Examples in a batch of an evaluation, where no step depends on the batch.
EVALUATION_BATCH = 256


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


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run went.

    Attributes:
        status: "completed", or "diverged" where it stopped early.
        reason: Why it stopped early, or "".
        epochs: The metrics of the epochs that ended.
        step_seconds: Wall-clock time of every step (forward, backward, update), in order.
    """

    status: Status
    reason: str
    epochs: tuple[EpochMetrics, ...]
    step_seconds: tuple[float, ...]


class _Diverged(Exception):
    """A loss stopped being finite."""


def train(
    model: nn.Module,
    train_set: Examples,
    test_set: Examples,
    settings: TrainingSettings,
    *,
    recipes: Sequence[Recipe] = (),
    on_epoch: Callable[[EpochMetrics], None] | None = None,
) -> TrainingResult:
    """Train a classifier in place with the cross-entropy loss.

    Args:
        model: Maps inputs [B, ...] to logits [B, classes]; native or converted. In training mode its modules
            keep their modes (a batch-norm in evaluation mode stays frozen); in evaluation mode all of it is
            put in training mode.
        train_set: What it learns from.
        test_set: What it is evaluated on after every epoch.
        settings: Hyperparameters and the seed.
        recipes: Training algorithms, which act in this order.
        on_epoch: Called with the metrics of each epoch as it ends.
    """
    run = _Run(model, train_set, test_set, settings, recipes)
    epochs: list[EpochMetrics] = []
    status, reason = "completed", ""
    with deterministic(settings.seed):
        try:
            for epoch in range(settings.epochs):
                epochs.append(run.epoch(epoch))
                if on_epoch is not None:
                    on_epoch(epochs[-1])
        except (_Diverged, NotANumberError) as error:
            status, reason = "diverged", f"epoch {len(epochs)}: {error}"
    return TrainingResult(
        status=status, reason=reason, epochs=tuple(epochs), step_seconds=tuple(run.step_seconds)
    )


def evaluate(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in evaluation mode; the mode of every module is put back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    loss, correct = 0.0, 0
    try:
        with torch.no_grad():
            for batch in in_order(examples, EVALUATION_BATCH):
                logits = model(batch.inputs)
                loss += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
                correct += int((logits.argmax(dim=1) == batch.targets).sum())
    finally:
        # Not model.train(): it would also reach modules that were frozen in evaluation mode.
        for module, training in modes.items():
            module.training = training
    return loss / len(examples), correct / len(examples)


class _Run:
    """The state that a run carries from step to step."""

    def __init__(
        self,
        model: nn.Module,
        train_set: Examples,
        test_set: Examples,
        settings: TrainingSettings,
        recipes: Sequence[Recipe],
    ) -> None:
        self.model, self.train_set, self.test_set, self.settings = model, train_set, test_set, settings
        self.recipe = compose(recipes)
        self.optimizer = build_optimizer(model, settings)
        self.order = torch.Generator().manual_seed(settings.seed)
        self.steps = settings.epochs * math.ceil(len(train_set) / settings.batch_size)
        self.step_seconds: list[float] = []
        # A model that is in training mode may hold modules that were frozen in evaluation mode.
        if not model.training:
            model.train()

    def epoch(self, epoch: int) -> EpochMetrics:
        start = time.perf_counter()
        loss, correct, rate = 0.0, 0, 0.0
        additions, overflows = 0, None
        reset_counts(self.model)
        for number, batch in enumerate(shuffled(self.train_set, self.settings.batch_size, self.order)):
            rate = learning_rate(self.settings, len(self.step_seconds), self.steps)
            # One step of each epoch is enough to see how often the accumulators overflow.
            with record() if number == 0 else nullcontext() as trace:
                batch_loss, batch_correct = self._step(epoch, rate, batch)
            if trace is not None:
                additions, overflows = _overflow_counts(trace)
            loss += batch_loss * len(batch)
            correct += batch_correct
        gemms = tuple(gemm_counts(self.model))
        test_loss, test_accuracy = evaluate(self.model, self.test_set)
        if not math.isfinite(test_loss):
            raise _Diverged(f"the test loss is {test_loss}")
        return EpochMetrics(
            epoch=epoch,
            learning_rate=rate,
            train_loss=loss / len(self.train_set),
            train_accuracy=correct / len(self.train_set),
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            additions=additions,
            overflows=overflows,
            operands=operand_counts(gemms),
            gemms=gemms,
            seconds=time.perf_counter() - start,
        )

    def _step(self, epoch: int, rate: float, batch: Examples) -> tuple[float, int]:
        """One step; its mean loss and how many examples the model had right before it."""
        start = time.perf_counter()
        step = Step(
            index=len(self.step_seconds),
            epoch=epoch,
            model=self.model,
            optimizer=self.optimizer,
            batch=batch,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.recipe.before_step(step)
        logits = self.model(batch.inputs)
        loss = F.cross_entropy(logits, batch.targets)
        if not torch.isfinite(loss):
            raise _Diverged(f"step {step.index}: the training loss is {float(loss.detach())}")
        loss.backward()
        self.recipe.on_gradients(step)
        self.optimizer.step()
        self.recipe.after_step(step)
        self.step_seconds.append(time.perf_counter() - start)
        return float(loss.detach()), int((logits.detach().argmax(dim=1) == batch.targets).sum())


def _overflow_counts(trace: WorkloadTrace) -> tuple[int, int | None]:
    """Accumulator additions of a trace, and how many overflowed (None where a GEMM did not count)."""
    counts = [event.overflows for event in trace.gemms]
    overflows = None if None in counts else sum(count for count in counts if count is not None)
    return sum(event.additions for event in trace.gemms), overflows
