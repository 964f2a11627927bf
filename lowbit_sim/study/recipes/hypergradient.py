"""`{ name = "hypergradient", hyper_learning_rate = 0.02, rule = "multiplicative" }`: see `training.hypergradient`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.training.hypergradient import Hypergradient, Rule, Scope


class HypergradientTable(RecipeTable):
    """Let the learning rate follow the derivative of the next loss.

    Attributes:
        hyper_learning_rate: Of the factor of the schedule's learning rate.
        rule: How the factor follows the derivative.
        scope: Whether the model has one factor, or each tensor its own.
    """

    name: Literal["hypergradient"]
    hyper_learning_rate: float = Field(ge=0)
    rule: Rule = "additive"
    scope: Scope = "model"

    def build(self, context: RecipeContext) -> Hypergradient:
        """The recipe."""
        return Hypergradient(hyper_learning_rate=self.hyper_learning_rate, rule=self.rule, scope=self.scope)
