"""The table of a recipe in a study file: its name, its keys, and how they become a recipe.

    recipes = [{ name = "clip_gradient_norm", max_norm = 5.0 }]

One subclass of `RecipeTable` a recipe, each in its own file and in the list `lowbit_sim.study.recipes.RECIPES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from lowbit_sim.config.tables import Strict
from lowbit_sim.training.recipe import Recipe
from lowbit_sim.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class RecipeContext:
    """What a recipe is built for.

    Attributes:
        seed: The run's seed.
        steps: Optimiser steps of the whole run.
        settings: The run's hyperparameters, with what the arm overrides.
    """

    seed: int
    steps: int
    settings: TrainingSettings


class RecipeTable(Strict, ABC):
    """A recipe's keys. A subclass gives `name` the type `Literal["its_name"]` and adds the recipe's own keys.

    Attributes:
        name: The recipe's name in `RECIPES`.
    """

    name: str

    @abstractmethod
    def build(self, context: RecipeContext) -> Recipe:
        """A fresh recipe for one run.

        Raises:
            ValueError: Keys that can't be.
        """

    def written(self) -> Self:
        """The table with every default written out; one whose defaults are plain values is that already."""
        return self

    def described(self) -> str:
        """The recipe in the few words of a table's cell: its name, and the keys that are not at their defaults."""
        required = {
            key: getattr(self, key) for key, field in type(self).model_fields.items() if field.is_required()
        }
        usual = type(self)(**required).written().model_dump()
        own = self.written().model_dump(exclude={"name"}, exclude_none=True)
        keys = [f"{key} {value}" for key, value in own.items() if key in required or value != usual[key]]
        return f"{self.name} ({', '.join(keys)})" if keys else self.name
