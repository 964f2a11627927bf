"""`{ name = "pact", bits = 4, gradient = "cg_pact" }`: see `training.pact`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lowbit_sim.config.tables import checked
from lowbit_sim.quant.pact import ClipGradient
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable, patterns
from lowbit_sim.training.pact import PACT


class PACTTable(RecipeTable):
    """Clip every layer's input at a learned level and round it.

    Attributes:
        bits: Width of the inputs' codes.
        gradient: Of the levels: "pact" or "cg_pact".
        layers: Paths of the layers, with shell wildcards; left out, all but the first.
        two_sided: Paths of those whose inputs are signed.
        conv_alpha, linear_alpha: Where the levels start.
    """

    name: Literal["pact"]
    bits: int = 4
    gradient: ClipGradient = "cg_pact"
    layers: Annotated[tuple[str, ...] | None, BeforeValidator(patterns)] = None
    two_sided: Annotated[tuple[str, ...], BeforeValidator(patterns)] = ()
    conv_alpha: float = Field(default=8.0, gt=0)
    linear_alpha: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(self._recipe)
        return self

    def build(self, context: RecipeContext) -> PACT:
        """The recipe."""
        return self._recipe()

    def _recipe(self) -> PACT:
        return PACT(**self.model_dump(exclude={"name"}))
