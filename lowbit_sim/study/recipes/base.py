"""The table of a recipe in a study file: its name, its keys, and how they become a recipe.

    recipes = [{ name = "clip_gradient_norm", max_norm = 5.0 }]

One subclass of `RecipeTable` a recipe, each in its own file and in the list `lowbit_sim.study.recipes.RECIPES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

from lowbit_sim.config.quantizer_config import QuantizerTable, build_quantizer
from lowbit_sim.config.tables import Strict
from lowbit_sim.training.recipe import Recipe
from lowbit_sim.training.settings import TrainingSettings


def patterns(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


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
        written = self.written()
        own = written.model_dump(exclude={"name"}, exclude_none=True)
        differing = [key for key, value in own.items() if key in required or value != usual[key]]
        keys = [f"{key} {_in_words(getattr(written, key))}" for key in differing]
        return f"{self.name} ({', '.join(keys)})" if keys else self.name


def _in_words(value: Any) -> str:
    """A quantiser's table as the quantiser is printed, anything else as it is."""
    return str(build_quantizer(value) if isinstance(value, QuantizerTable) else value)
