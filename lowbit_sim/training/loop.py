"""Plain supervised training: shuffle, step, evaluate; reproducible to the bit from one seed.

A step's gradient is that of the batch's mean loss. With accumulation it is summed over n micro-batches b_i of the
batch B, each with its share of the examples: g = sum_i |b_i| / |B| dL(b_i)/dw.

A run that diverges (a loss that is not finite, or a NaN that reaches a quantiser) is a result, not a crash.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice

import torch
import torch.nn.functional as F
from torch import nn

from lowbit_sim.nn.counts import gemm_counts, operand_counts, reset_counts
from lowbit_sim.quant.quantizer import NotANumberError
from lowbit_sim.trace import WorkloadTrace, record
from lowbit_sim.training.autocast import Autocast, forward
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.device import device_name, device_of
from lowbit_sim.training.examples import Examples, in_order, shuffled
from lowbit_sim.training.loss_scaling import LossScaling
from lowbit_sim.training.metrics import EpochMetrics, TrainingResult
from lowbit_sim.training.recalibration import recalibrated, running_norms
from lowbit_sim.training.recipe import ForwardPass, Recipe, Step, compose
from lowbit_sim.training.run_state import (
    learning_state,
    load_learning_state,
    load_progress_state,
    progress_state,
)
from lowbit_sim.training.settings import TrainingSettings, build_optimizer, learning_rate
from lowbit_sim.training.step_clock import step_clock
from lowbit_sim.training.usage import UsageMeter

#: Examples in a batch of an evaluation, where no step depends on the batch.
EVALUATION_BATCH = 256


class _Diverged(Exception):
    """A loss stopped being finite."""


def train(
    model: nn.Module,
    train_set: Examples,
    test_set: Examples,
    settings: TrainingSettings,
    *,
    recipes: Sequence[Recipe] | Mapping[str, Recipe] = (),
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train a classifier in place, with the cross-entropy loss or what recipes make of it.

    Args:
        model: Maps inputs [B, ...] to logits [B, classes]; native or converted. In training mode its modules
            keep their modes (a batch-norm in evaluation mode stays frozen); in evaluation mode all of it is
            put in training mode. Each batch goes to the device that its parameters are on.
        train_set: What it learns from.
        test_set: What it is evaluated on after every epoch.
        settings: Hyperparameters and the seed.
        recipes: Training algorithms, which act in this order; with names, those are in the measurements.
        on_epoch: Called with the metrics of each epoch as it ends.
        checkpoint: Where the state is kept at the end of each epoch, after `on_epoch`. Where there is one already,
            training goes on from it, bit for bit, and model and recipes are to be as they were at the start.

    Raises:
        CheckpointError: A checkpoint of another run.
        ValueError: Recipes that can't be together, or a model that one of them is not for.
    """
    run = _Run(model, train_set, test_set, settings, recipes)
    status, reason = "completed", ""
    with deterministic(settings.seed, run.device, tf32=settings.tf32):
        if checkpoint is not None:
            run.resume(checkpoint)
        try:
            while len(run.epochs) < settings.epochs:
                run.epochs.append(run.epoch(len(run.epochs)))
                if on_epoch is not None:
                    on_epoch(run.epochs[-1])
                if checkpoint is not None:
                    run.save(checkpoint)
        except (_Diverged, NotANumberError) as error:
            status, reason = "diverged", f"epoch {len(run.epochs)}: {error}"
        finally:
            run.recipe.abandon_step()
            run.step_seconds += run.clock.taken()
    return TrainingResult(
        status=status, reason=reason, epochs=tuple(run.epochs), step_seconds=tuple(run.step_seconds)
    )


def evaluate(
    model: nn.Module, examples: Examples, *, autocast: Autocast | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in evaluation mode; the mode of every module is put back."""
    modes = {module: module.training for module in model.modules()}
    device = device_of(model)
    model.eval()
    loss, correct = 0.0, 0
    try:
        with torch.no_grad():
            for each in in_order(examples, EVALUATION_BATCH):
                batch = each.to(device)
                logits = forward(model, batch.inputs, autocast)
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
        recipes: Sequence[Recipe] | Mapping[str, Recipe],
    ) -> None:
        self.model, self.train_set, self.test_set, self.settings = model, train_set, test_set, settings
        self.device = device_of(model)
        self.recipe = compose(recipes)
        self.recipe.prepare(model)
        self.optimizer = build_optimizer(model, settings, self.recipe.without_weight_decay(model))
        self.order = torch.Generator().manual_seed(settings.seed)
        self.scaling = LossScaling(self.device) if settings.autocast == "fp16" else None
        self.clock, self.usage = step_clock(self.device), UsageMeter(self.device)
        self.steps = settings.steps(len(train_set))
        self.steps_taken = 0
        self.epochs: list[EpochMetrics] = []
        self.step_seconds: list[float] = []
        # A model that is in training mode may hold modules that were frozen in evaluation mode.
        if not model.training:
            model.train()

    def save(self, checkpoint: Checkpoint) -> None:
        state = {
            "learning": learning_state(self.model, self.optimizer, self.recipe, self.order, self.scaling),
            "progress": progress_state(self.epochs, self.step_seconds),
        }
        checkpoint.save(state, self._identity(checkpoint))

    def resume(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.load(self._identity(checkpoint))
        if state is not None:
            owners = (self.model, self.optimizer, self.recipe, self.order, self.scaling)
            load_learning_state(state["learning"], *owners)
            self.epochs, self.step_seconds = load_progress_state(state["progress"])
            self.steps_taken = len(self.step_seconds)
        checkpoint.on_resume(len(self.epochs))

    def _identity(self, checkpoint: Checkpoint) -> dict[str, str]:
        """What a run is: what its checkpoint's owner says, and what is known here."""
        return {
            **checkpoint.identity,
            "settings": str(self.settings),
            "recipes": ", ".join(self.recipe.by_name) or "none",
            "examples": f"{len(self.train_set)} and {len(self.test_set)}",
            "torch": torch.__version__,
            "device": device_name(self.device),
        }

    def epoch(self, epoch: int) -> EpochMetrics:
        start = time.perf_counter()
        loss, correct, rate = 0.0, 0, 0.0
        additions, overflows = 0, None
        reset_counts(self.model)
        before = self.steps_taken
        self.usage.start()
        for number, batch in enumerate(shuffled(self.train_set, self.settings.batch_size, self.order)):
            rate = learning_rate(self.settings, self.steps_taken, self.steps)
            # One step of each epoch is enough to see how often the accumulators overflow.
            with record() if number == 0 else nullcontext() as trace:
                batch_loss, batch_correct = self._step(epoch, rate, batch.to(self.device))
            if trace is not None:
                additions, overflows = _overflow_counts(trace)
            loss += batch_loss * len(batch)
            correct += batch_correct
        used = self.usage.stop()
        self.step_seconds += self.clock.taken()
        gemms = tuple(gemm_counts(self.model))
        test_loss, test_accuracy = evaluate(self.model, self.test_set, autocast=self.settings.autocast)
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
            measurements={
                **self.recipe.measurements(),
                **(self.scaling.measurements() if self.scaling else {}),
                **self._recalibrated(),
            },
            seconds=time.perf_counter() - start,
            steps=self.steps_taken - before,
            energy_j=used.energy_j,
            peak_memory_bytes=used.peak_memory_bytes,
        )

    def _recalibrated(self) -> dict[str, float]:
        """Loss and accuracy with batch-norm statistics of the first training batches in stored order."""
        count = self.settings.recalibration_batches
        if count == 0 or not running_norms(self.model):
            return {}
        batches = list(islice(in_order(self.train_set, self.settings.micro_batch_size), count))
        with recalibrated(self.model, batches, autocast=self.settings.autocast):
            loss, accuracy = evaluate(self.model, self.test_set, autocast=self.settings.autocast)
        return {"recalibrated_loss": loss, "recalibrated_accuracy": accuracy}

    def _step(self, epoch: int, rate: float, batch: Examples) -> tuple[float, int]:
        """One step; its mean loss and how many examples the model had right before it."""
        self.clock.start()
        step = Step(
            index=self.steps_taken,
            epoch=epoch,
            model=self.model,
            optimizer=self.optimizer,
            batch=batch,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.recipe.before_step(step)
        loss, correct = 0.0, 0
        for part in in_order(batch, self.settings.micro_batch_size):
            part_loss, part_correct = self._gradients(step, part)
            loss += part_loss * (len(part) / len(batch))
            correct += part_correct
        self._update(step)
        self.clock.stop()
        self.steps_taken += 1
        return loss, correct

    def _update(self, step: Step) -> None:
        """Recipes and the optimiser; where a scaled loss gave a gradient that is not finite, neither acts."""
        scaling = self.scaling
        if scaling is not None and not scaling.unscale(self.optimizer):
            self.recipe.abandon_step()
            scaling.update(self.optimizer)
            return
        self.recipe.on_gradients(step)
        if scaling is None:
            self.optimizer.step()
        else:
            scaling.update(self.optimizer)
        self.recipe.after_step(step)

    def _gradients(self, step: Step, part: Examples) -> tuple[float, int]:
        """Add a micro-batch's share of the gradient; its mean cross-entropy and how many examples were right."""
        logits = forward(self.model, part.inputs, self.settings.autocast)
        entropy = F.cross_entropy(logits, part.targets)
        share = len(part) / len(step.batch)
        loss = self.recipe.on_loss(step, ForwardPass(part=part, logits=logits, share=share), entropy)
        if not torch.isfinite(loss):
            raise _Diverged(f"step {step.index}: the training loss is {float(loss.detach())}")
        # The whole batch at once keeps its bits: no multiplication stands between its loss and its gradient.
        loss = loss if share == 1 else loss * share
        (loss if self.scaling is None else self.scaling.scaled(loss)).backward()
        return float(entropy.detach()), int((logits.detach().argmax(dim=1) == part.targets).sum())


def _overflow_counts(trace: WorkloadTrace) -> tuple[int, int | None]:
    """Accumulator additions of a trace, and how many overflowed (None where a GEMM did not count)."""
    counts = [event.overflows for event in trace.gemms]
    overflows = None if None in counts else sum(count for count in counts if count is not None)
    return sum(event.additions for event in trace.gemms), overflows
