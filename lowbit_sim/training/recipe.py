"""The seam for training algorithms: what one does before a step, to the gradients, and after the step.

    before_step -> forward, loss, backward -> on_gradients -> optimiser -> after_step

A recipe is one object with these three methods. Recipes are composed, never inherited, and the loop knows
none by name. With no recipes the loop is plain training, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn
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
        batch: The examples of the step.
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


@dataclass(frozen=True)
class Composed:
    """Several recipes as one: at each moment every recipe acts, in the order given."""

    recipes: tuple[Recipe, ...]

    def before_step(self, step: Step) -> None:
        """Each recipe's `before_step`, in order."""
        for recipe in self.recipes:
            recipe.before_step(step)

    def on_gradients(self, step: Step) -> None:
        """Each recipe's `on_gradients`, in order."""
        for recipe in self.recipes:
            recipe.on_gradients(step)

    def after_step(self, step: Step) -> None:
        """Each recipe's `after_step`, in order."""
        for recipe in self.recipes:
            recipe.after_step(step)


def compose(recipes: Sequence[Recipe]) -> Recipe:
    """One recipe out of any number of them; of none, the recipe that does nothing."""
    return Composed(tuple(recipes))
