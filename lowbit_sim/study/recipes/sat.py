"""`{ name = "sat", bits = 4, rescaling = "constant" }`: see `training.sat`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator

from lowbit_sim.config.tables import checked
from lowbit_sim.nn.rescaled_weight import Evaluation, Maximum
from lowbit_sim.quant.dorefa_weights import Rescaling, Scheme
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable, patterns
from lowbit_sim.training.sat import SAT, WeightDecay


class SATTable(RecipeTable):
    """Clamp weights, round them to DoReFa's levels, and rescale those that no batch-norm follows.

    Attributes:
        bits: Width of the weights' codes; 32 to clamp them only.
        scheme: "original", "modified" or "centered".
        rescaling: "constant", "stddev" or "none".
        edge_bits: Width in the first and the last layer.
        layers: Paths of the layers, with shell wildcards; left out, all.
        rescaled: Paths of those that are rescaled; left out, those that no batch-norm follows.
        maximum: "differentiated" or "constant".
        evaluation: "as_trained" or "unscaled".
        weight_decay: "all" or "dense".
    """

    name: Literal["sat"]
    bits: int = 4
    scheme: Scheme = "original"
    rescaling: Rescaling = "constant"
    edge_bits: int = 8
    layers: Annotated[tuple[str, ...] | None, BeforeValidator(patterns)] = None
    rescaled: Annotated[tuple[str, ...] | None, BeforeValidator(patterns)] = None
    maximum: Maximum = "differentiated"
    evaluation: Evaluation = "as_trained"
    weight_decay: WeightDecay = "all"

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(self._recipe)
        return self

    def build(self, context: RecipeContext) -> SAT:
        """The recipe."""
        return self._recipe()

    def _recipe(self) -> SAT:
        return SAT(**self.model_dump(exclude={"name"}))
