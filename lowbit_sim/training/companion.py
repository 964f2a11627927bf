"""Nets that are trained beside the model: a teacher, or further students.

A companion is a copy of the model, as the recipe that owns it finds it, with an optimiser of its own and the run's
hyperparameters. Its learning rate follows the run's schedule, also where another recipe gives the model another one.
It runs on the model's batches, in training mode and in float32 but for what is emulated in it, and is updated after
the model: nothing that either reads in a step has been changed in it.

Its work is on record as the model's is, under "teacher." and the like: GEMMs, vector work, update.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.nn.convert import restore
from lowbit_sim.nn.precision_switch import is_prepared
from lowbit_sim.nn.state import emulation_state, load_emulation_state
from lowbit_sim.ops.billing import kept_bytes
from lowbit_sim.trace import Event, VectorEvent, changed, emit, recording
from lowbit_sim.training.device import device_of
from lowbit_sim.training.gradient_sums import bill_gradient_sums
from lowbit_sim.training.native_events import native_events
from lowbit_sim.training.optimizers import LowPrecisionOptimizer
from lowbit_sim.training.recipe import ForwardPass, Preparing, Recipe
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.workload import loss_event, update_event


class Companion:
    """A net that is trained beside the model.

    Args:
        name: What it is: "teacher", "student_2".
        net: The net, which is trained in place.
        settings: The run's hyperparameters.
        learning_rate: Its rate where the run's schedule is at `settings.learning_rate`.
    """

    def __init__(self, name: str, net: nn.Module, settings: TrainingSettings, learning_rate: float) -> None:
        self.name, self.net, self.settings = name, net.train(), settings
        self.factor = learning_rate / settings.learning_rate
        self.optimizer = build_optimizer(net, settings)
        self._rate = learning_rate
        self._epoch, self._examples, self._loss, self._correct = -1, 0, 0.0, 0

    def start(self, epoch: int, rate: float) -> None:
        """A step begins.

        Args:
            epoch: Number of its epoch.
            rate: The run's learning rate.
        """
        if epoch != self._epoch:
            self._epoch, self._examples, self._loss, self._correct = epoch, 0, 0.0, 0
        self._rate = rate * self.factor
        self.abandon()

    def forward(self, forward: ForwardPass) -> Tensor:
        """Its logits [B, classes] for the examples of a forward pass of the model, in autograd's graph."""
        inputs = forward.part.inputs
        if inputs.is_meta and device_of(self.net).type != "meta":  # a step that is traced by shapes alone
            self.net = self.net.to("meta")
            self.optimizer = build_optimizer(self.net, self.settings)
        with self._on_record():
            logits = self.net(inputs)
            if recording():  # its loss, forward and backward
                emit(loss_event(logits, read=2, write=1, kept=kept_bytes(logits)))
        self._note(forward, logits)
        return logits

    def backward(self, loss: Tensor, share: float) -> None:
        """Add the gradient of a loss, times the share of a forward pass."""
        with self._on_record():
            if recording():
                bill_gradient_sums(loss)
            (loss if share == 1 else loss * share).backward()

    def step(self) -> None:
        """Update the net."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate
        with self._on_record():
            self.optimizer.step()
            if recording() and not isinstance(self.optimizer, LowPrecisionOptimizer):
                emit(update_event(self.optimizer))
        self.abandon()

    def abandon(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def measurements(self) -> dict[str, float]:
        """Mean cross-entropy and accuracy over the epoch's training examples, each as it was when its step ran."""
        if not self._examples:
            return {}
        return {
            f"{self.name}_train_loss": self._loss / self._examples,
            f"{self.name}_train_accuracy": self._correct / self._examples,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on needs."""
        return {
            "net": dict(self.net.state_dict()),
            "emulation": emulation_state(self.net),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.net.load_state_dict(state["net"])
        load_emulation_state(self.net, state["emulation"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _note(self, forward: ForwardPass, logits: Tensor) -> None:
        if logits.is_meta:
            return
        found, targets = logits.detach(), forward.part.targets
        self._loss += float(F.cross_entropy(found, targets, reduction="sum"))
        self._correct += int((found.argmax(dim=1) == targets).sum())
        self._examples += len(targets)

    @contextmanager
    def _on_record(self) -> Iterator[None]:
        """Bill what the block runs under the companion's name."""
        if not recording():
            yield
            return
        with changed(self._own), native_events(self.net):
            yield

    def _own(self, event: Event) -> Event:
        layer = f"{self.name}.{event.layer}" if event.layer else self.name
        if isinstance(event, VectorEvent):
            return replace(event, layer=layer)
        return replace(event, layer=layer)


def full_precision_copy(model: nn.Module) -> nn.Module:
    """A copy with native layers.

    Raises:
        ValueError: A model with pre-processed weights, which a copy would have too.
    """
    refuse_prepared(model)
    return restore(copy.deepcopy(model))


def refuse_changed(before: Mapping[str, Recipe]) -> None:
    """Refuse recipes that change the model before it is copied.

    Raises:
        ValueError: Naming the first one.
    """
    for name, recipe in before.items():
        if isinstance(recipe, Preparing) and not hasattr(type(recipe), "teacher"):
            raise ValueError(
                f"{name} before it changes the model, and the other net is a copy of it in full precision: name "
                f"{name} behind it"
            )


def refuse_prepared(model: nn.Module) -> None:
    """Refuse a model of which a copy would not be one in full precision.

    Raises:
        ValueError: Its weights are pre-processed.
    """
    if is_prepared(model):
        raise ValueError(
            "the other net is a copy of the model in full precision, but the model's weights are pre-processed "
            "already: name this recipe before those that quantise, and leave the arm's `weights` out"
        )


def kl_divergence(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL( softmax(target / T) || softmax(logits / T) ), summed over classes, the mean over the batch.

    Args:
        target: The logits that are followed [B, classes], detached.
        logits: The logits that follow.
        temperature: T.
    """
    wanted = torch.log_softmax(target.detach() / temperature, dim=1)
    found = torch.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(found, wanted, reduction="batchmean", log_target=True)
