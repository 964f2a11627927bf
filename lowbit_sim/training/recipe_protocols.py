"""What a recipe is, and what it may do beside that: protocols, each of which a recipe has or has not.

| protocol       | methods                               | when                                         |
|----------------|---------------------------------------|----------------------------------------------|
| `Recipe`       | before_step, on_gradients, after_step | in every step                                |
| `Placed`       | check_place                           | once, when recipes are composed              |
| `Preparing`    | prepare                               | once, before the optimiser is built          |
| `Undecayed`    | without_weight_decay                  | once, when the optimiser is built            |
| `Staged`       | stages                                | when a run is priced                         |
| `LossChanging` | on_loss                               | between a forward pass and its backward pass |
| `Abandonable`  | abandon_step                          | when a step ends early                       |
| `Measured`     | measurements                          | at the end of every epoch                    |
| `Stateful`     | state_dict, load_state_dict           | when a checkpoint is written or gone on from |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.training.examples import Examples


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """The step in progress, as a recipe sees it.

    Attributes:
        index: Number of the step since the start of training, from 0.
        epoch: Number of the epoch, from 0.
        model: The model, whose parameters' `grad` are set in `on_gradients`.
        optimizer: The optimiser.
        batch: The examples of the step; with accumulated gradients, of all its micro-batches.
    """

    index: int
    epoch: int
    model: nn.Module
    optimizer: Optimizer
    batch: Examples


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardPass:
    """A forward pass in training, whose loss is about to be differentiated.

    Attributes:
        part: The examples: the step's batch, or one of its micro-batches.
        logits: What the model made of them [B, classes], in autograd's graph.
        share: Their share of the step's examples, which the loss will be multiplied by; 1 for a whole batch.
    """

    part: Examples
    logits: Tensor
    share: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of a run whose steps cost alike.

    Attributes:
        name: What it is, in few words.
        first_step: Number of its first step.
        steps: How many it has, at least 1.
    """

    name: str
    first_step: int
    steps: int

    @property
    def middle_step(self) -> int:
        """The step that stands for all of them."""
        return self.first_step + self.steps // 2


class Recipe(Protocol):
    """A training algorithm. A moment at which it has nothing to do is an empty method."""

    def before_step(self, step: Step) -> None:
        """Called before the forward pass, when the gradients have been cleared and the learning rate is set."""
        ...

    def on_gradients(self, step: Step) -> None:
        """Called after the backward pass; may change the parameters' gradients in place."""
        ...

    def after_step(self, step: Step) -> None:
        """Called after the optimiser has updated the parameters."""
        ...


@runtime_checkable
class Placed(Protocol):
    """A recipe that can't stand everywhere in a list, or not beside every other one."""

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        """Refuse the recipes that act before and behind this one, by name.

        Raises:
            ValueError: Naming the recipe that is in the way, and why.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """A recipe that changes the model once, before training: pre-processes weights, adds parameters or hooks."""

    def prepare(self, model: nn.Module) -> None:
        """Change the model in place, on the device that it trains on, before the optimiser is built.

        The parameters that are there stay the same objects. The recipe keeps no reference to the model or its
        modules, but finds them by their paths in `Step.model`: a step may run on a copy of the model, with a copy of
        the recipe.

        Raises:
            ValueError: A model that the recipe is not for, or that another one has changed so that it no longer is.
        """
        ...


@runtime_checkable
class Undecayed(Protocol):
    """A recipe that keeps the weight decay from some parameters."""

    def without_weight_decay(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """Those parameters, of the prepared model."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A recipe whose steps cost differently in the course of a run."""

    def stages(self) -> Sequence[Stage]:
        """The stages that the run consists of, in order."""
        ...


@runtime_checkable
class LossChanging(Protocol):
    """A recipe that trains by another loss than the one it finds."""

    def on_loss(self, step: Step, forward: ForwardPass, loss: Tensor) -> Tensor:
        """The loss to differentiate in the place of `loss`, which is the cross-entropy or what a recipe before made.

        Whatever else learns beside the model (a teacher) may run its own forward and backward pass here, with its
        loss times `forward.share`.
        """
        ...


@runtime_checkable
class Abandonable(Protocol):
    """A recipe that changes model or optimiser for the length of a step."""

    def abandon_step(self) -> None:
        """Undo that, where a step ended before `after_step`; between two steps there is nothing to undo."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A recipe that reports what it does, once an epoch."""

    def measurements(self) -> dict[str, float]:
        """Values by name, as of the epoch's end, after its evaluation."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A recipe whose state a checkpoint keeps.

    What belongs to a parameter is keyed by the parameter's name in `Step.model.named_parameters()`, never by the
    object's identity, so that a fresh recipe beside a fresh model can take the state over, and a deep copy is an
    independent twin.
    """

    def state_dict(self) -> dict[str, Any]:
        """The state: tensors, numbers, strings, None, and lists and dictionaries of these with strings as keys."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` of a recipe with the same settings gave."""
        ...
