"""The seam for training algorithms: what one does before a run, in each of its steps, and after it.

    prepare (once) -> before_step -> forward, on_loss, backward -> on_gradients -> optimiser -> after_step

A recipe is one object with the three methods of a step; what else it may have is `recipe_protocols.py`. Recipes are
composed, never inherited, and the loop knows none by name. With no recipes the loop is plain training, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from lowbit_sim.training.recipe_protocols import Abandonable as Abandonable
from lowbit_sim.training.recipe_protocols import ForwardPass as ForwardPass
from lowbit_sim.training.recipe_protocols import LossChanging as LossChanging
from lowbit_sim.training.recipe_protocols import Measured as Measured
from lowbit_sim.training.recipe_protocols import Placed as Placed
from lowbit_sim.training.recipe_protocols import Preparing as Preparing
from lowbit_sim.training.recipe_protocols import Recipe as Recipe
from lowbit_sim.training.recipe_protocols import Stage as Stage
from lowbit_sim.training.recipe_protocols import Staged as Staged
from lowbit_sim.training.recipe_protocols import Stateful as Stateful
from lowbit_sim.training.recipe_protocols import Step as Step
from lowbit_sim.training.recipe_protocols import Undecayed as Undecayed

T = TypeVar("T")


@dataclass(frozen=True)
class Composed:
    """Several recipes as one: at each moment every recipe acts, in the order given.

    Attributes:
        by_name: The recipes; a name stands before each of its measurements and its state.
    """

    by_name: Mapping[str, Recipe]

    def prepare(self, model: nn.Module) -> None:
        """Each recipe's `prepare`, in order.

        Raises:
            ValueError: What a recipe refuses, after its name.
        """
        for name, recipe in self.by_name.items():
            if isinstance(recipe, Preparing):
                try:
                    recipe.prepare(model)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error

    def without_weight_decay(self, model: nn.Module) -> list[nn.Parameter]:
        """What any of the recipes keeps the weight decay from, each parameter once."""
        found = {
            id(p): p
            for recipe in self.by_name.values()
            if isinstance(recipe, Undecayed)
            for p in recipe.without_weight_decay(model)
        }
        return list(found.values())

    def stages(self) -> list[Stage]:
        """The stretches in which no recipe changes its stage; empty where no recipe has any."""
        staged = [recipe.stages() for recipe in self.by_name.values() if isinstance(recipe, Staged)]
        return _common([stages for stages in staged if stages])

    def before_step(self, step: Step) -> None:
        """Each recipe's `before_step`, in order."""
        for recipe in self.by_name.values():
            recipe.before_step(step)

    def on_loss(self, step: Step, forward: ForwardPass, loss: Tensor) -> Tensor:
        """The loss that the recipes make of one another's, in order."""
        for recipe in self.by_name.values():
            if isinstance(recipe, LossChanging):
                loss = recipe.on_loss(step, forward, loss)
        return loss

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

    Raises:
        ValueError: A recipe that can't stand where it does, or not beside another.
    """
    if isinstance(recipes, Mapping):
        by_name = dict(recipes)
    else:
        by_name = numbered((_snake_case(type(recipe).__name__), recipe) for recipe in recipes)
    _check_places(by_name)
    return Composed(by_name)


def _check_places(by_name: Mapping[str, Recipe]) -> None:
    names = list(by_name)
    for place, (name, recipe) in enumerate(by_name.items()):
        if isinstance(recipe, Placed):
            before = {other: by_name[other] for other in names[:place]}
            behind = {other: by_name[other] for other in names[place + 1 :]}
            try:
                recipe.check_place(before, behind)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error


def _common(staged: Sequence[Sequence[Stage]]) -> list[Stage]:
    """The stages of several recipes laid over one another."""
    if not staged:
        return []
    firsts = sorted({stage.first_step for stages in staged for stage in stages})
    end = max(stage.first_step + stage.steps for stages in staged for stage in stages)
    found = []
    for first, after in zip(firsts, [*firsts[1:], end], strict=True):
        running = [next(s for s in reversed(stages) if s.first_step <= first) for stages in staged]
        names = ", ".join(dict.fromkeys(stage.name for stage in running))
        found.append(Stage(name=names, first_step=first, steps=after - first))
    return found


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
