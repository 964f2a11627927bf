"""The recipes that a study's arms can name: `recipes = [{ name = "...", ... }, ...]`, which act in this order.

`RECIPES` is the list: a name and the type of its table. A new recipe is one file and one line.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from lowbit_sim.config.tables import table_of
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.study.recipes.clip import ClipGradientNormTable
from lowbit_sim.study.recipes.distillation import DistillationTable
from lowbit_sim.study.recipes.dorefa import DoReFaTable
from lowbit_sim.study.recipes.error_feedback import ErrorFeedbackTable
from lowbit_sim.study.recipes.guided import GuidedTable
from lowbit_sim.study.recipes.hypergradient import HypergradientTable
from lowbit_sim.study.recipes.metagrad import MetaGradTable
from lowbit_sim.study.recipes.pact import PACTTable
from lowbit_sim.study.recipes.progressive import ProgressiveTable
from lowbit_sim.study.recipes.sat import SATTable
from lowbit_sim.study.recipes.stochastic_precision import StochasticPrecisionTable
from lowbit_sim.study.recipes.two_step import TwoStepTable

__all__ = ["RECIPES", "AnyRecipe", "RecipeContext", "RecipeTable"]

RECIPES: dict[str, type[RecipeTable]] = {
    "clip_gradient_norm": ClipGradientNormTable,
    "distillation": DistillationTable,
    "dorefa": DoReFaTable,
    "error_feedback": ErrorFeedbackTable,
    "guided": GuidedTable,
    "hypergradient": HypergradientTable,
    "metagrad": MetaGradTable,
    "pact": PACTTable,
    "progressive": ProgressiveTable,
    "sat": SATTable,
    "stochastic_precision": StochasticPrecisionTable,
    "two_step": TwoStepTable,
}


def _table(value: Any) -> Any:
    """The table of the recipe that a TOML table names."""
    if not isinstance(value, dict):
        return value
    if "name" not in value:
        raise ValueError(f"the key 'name' is missing: the recipe, one of {', '.join(sorted(RECIPES))}")
    name = value["name"]
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return table_of(RECIPES[name], value)


#: A recipe's table, by its name; every subclass writes its own keys.
AnyRecipe = Annotated[SerializeAsAny[RecipeTable], BeforeValidator(_table)]
