"""The seam for training algorithms: what one does before a step, to the gradients, and after the step.

    before_step -> forward, loss, backward -> on_gradients -> optimiser -> after_step

A recipe is one object with these three methods. Recipes are composed, never inherited, and the loop knows
none by name. With no recipes the loop is plain training, bit for bit.

A recipe may do three things more: keep a state from step to step (`Stateful`), which a checkpoint then holds,
measure what it does (`Measured`), which the metrics of every epoch then hold, and clear up after a step that ended
early (`Abandonable`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import nn
from torch.optim import Optimizer

from lowbit_sim.training.examples import Examples

T = TypeVar("T")


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


class Recipe(Protocol):
    """A training algorithm. A moment at which it has nothing to do is an empty method."""

    def before_step(self, step: Step) -> None:
        """Called before the forward pass, when the gradients have been cleared."""
        ...

    def on_gradients(self, step: Step) -> None:
        """Called after the backward pass; may change the parameters' gradients in place."""
        ...

    def after_step(self, step: Step) -> None:
        """Called after the optimiser has updated the parameters."""
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


@runtime_checkable
class Measured(Protocol):
    """A recipe that reports what it does, once an epoch."""

    def measurements(self) -> dict[str, float]:
        """Values by name, as of the epoch's end, after its evaluation."""
        ...


@runtime_checkable
class Abandonable(Protocol):
    """A recipe that changes model or optimiser for the length of a step."""

    def abandon_step(self) -> None:
        """Undo that, where a step ended before `after_step`; between two steps there is nothing to undo."""
        ...


@dataclass(frozen=True)
class Composed:
    """Several recipes as one: at each moment every recipe acts, in the order given.

    Attributes:
        by_name: The recipes; a name stands before each of its measurements and its state.
    """

    by_name: Mapping[str, Recipe]

    def before_step(self, step: Step) -> None:
        """Each recipe's `before_step`, in order."""
        for recipe in self.by_name.values():
            recipe.before_step(step)

    def on_gradients(self, step: Step) -> None:
        """Each recipe's `on_gradients`, in order."""
        for recipe in self.by_name.values():
            recipe.on_gradients(step)

    def after_step(self, step: Step) -> None:
        """Each recipe's `after_step`, in order."""
        for recipe in self.by_name.values():
            recipe.after_step(step)

    def abandon_step(self) -> None:
        """That of the recipes that have one, the last one first."""
        for recipe in reversed(list(self.by_name.values())):
            if isinstance(recipe, Abandonable):
                recipe.abandon_step()

    def state_dict(self) -> dict[str, Any]:
        """The states of the recipes that have one, by the recipe's name."""
        return {name: recipe.state_dict() for name, recipe in self._stateful().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hand each recipe its state.

        Raises:
            ValueError: A state of other recipes than these.
        """
        stateful = self._stateful()
        if state.keys() != stateful.keys():
            raise ValueError(
                f"the state is that of the recipes {_listed(state)}, but those with a state are {_listed(stateful)}"
            )
        for name, recipe in stateful.items():
            recipe.load_state_dict(state[name])

    def measurements(self) -> dict[str, float]:
        """The values of the recipes that measure, each as "<name of the recipe>.<name>"."""
        return {
            f"{name}.{measured}": float(value)
            for name, recipe in self.by_name.items()
            if isinstance(recipe, Measured)
            for measured, value in recipe.measurements().items()
        }

    def _stateful(self) -> dict[str, Stateful]:
        return {name: recipe for name, recipe in self.by_name.items() if isinstance(recipe, Stateful)}


def compose(recipes: Sequence[Recipe] | Mapping[str, Recipe]) -> Composed:
    """One recipe out of any number of them; of none, the recipe that does nothing.

    Args:
        recipes: In the order in which they act. Without names, each is called by its class in snake case.
    """
    if isinstance(recipes, Mapping):
        return Composed(dict(recipes))
    return Composed(numbered((_snake_case(type(recipe).__name__), recipe) for recipe in recipes))


def numbered(named: Iterable[tuple[str, T]], further: str = "{name}_{number}") -> dict[str, T]:
    """Values by their names; the second of a name is what `further` makes of it and 2."""
    values: dict[str, T] = {}
    for name, value in named:
        key, number = name, 1
        while key in values:
            number += 1
            key = further.format(name=name, number=number)
        values[key] = value
    return values


def _snake_case(name: str) -> str:
    """In snake case: "clip_gradient_norm" for `ClipGradientNorm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
