"""`{ name = "progressive", bits = [32, 16, 8, 4, 2] }`: see `training.progressive`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lowbit_sim.config.tables import checked
from lowbit_sim.study.recipes.base import RecipeContext
from lowbit_sim.study.recipes.grid import (
    GridBits,
    LayersTable,
    LearningRateSpan,
    list_to_tuple,
    restarts,
)
from lowbit_sim.training.progressive import BITS, progressive
from lowbit_sim.training.staged_precision import StagedPrecision

#: Enough steps for any list of widths that makes sense.
_MANY = 1 << 20


class ProgressiveTable(LayersTable):
    """Let the bits of weights and inputs fall from stage to stage.

    Attributes:
        bits: Of weights and inputs in each stage.
        shares: Each width's share of the run, relative to the others'; left out, equal.
        nested: Whether each width is reached in two steps, the weights first.
        learning_rate: Whether the schedule of the learning rate starts anew with each stage.
    """

    name: Literal["progressive"]
    bits: Annotated[tuple[GridBits, ...], BeforeValidator(list_to_tuple)] = BITS
    shares: Annotated[tuple[Annotated[float, Field(ge=0)], ...] | None, BeforeValidator(list_to_tuple)] = None
    nested: bool = False
    learning_rate: LearningRateSpan = "per_stage"

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(lambda: progressive(self.bits, steps=_MANY, shares=self.shares, nested=self.nested))
        return self

    def build(self, context: RecipeContext) -> StagedPrecision:
        """The recipe."""
        return progressive(
            self.bits,
            steps=context.steps,
            shares=self.shares,
            nested=self.nested,
            layers=self.layers,
            clip=self.clip,
            restarts=restarts(self.learning_rate, context),
        )
