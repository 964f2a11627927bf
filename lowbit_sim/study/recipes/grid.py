"""The keys that the recipes on DoReFa's grids share: what is quantised, and when the learning rate starts anew."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lowbit_sim.config.tables import Strict, checked
from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.training.settings import TrainingSettings


def list_to_tuple(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


#: Bits of a grid, or 32 for full precision.
GridBits = Annotated[int, Field(ge=1, le=32)]

#: A share of a run that leaves some of it.
Share = Annotated[float, Field(ge=0, lt=1)]

Paths = Annotated[tuple[str, ...] | None, BeforeValidator(list_to_tuple)]


class LayersTable(RecipeTable):
    """What is quantised.

    Attributes:
        layers: Paths of the layers to quantise, with shell wildcards; left out, all but the first and the last.
        clip: Upper end of the inputs' range.
    """

    layers: Paths = None
    clip: float = Field(default=1.0, gt=0)


class GridTable(LayersTable):
    """What is quantised, and to how many bits.

    Attributes:
        weight_bits: 1 to 16, or 32 for full precision.
        activation_bits: The same for the layers' inputs.
    """

    weight_bits: GridBits
    activation_bits: GridBits

    @model_validator(mode="after")
    def _bits_can_be(self) -> Self:
        checked(self.precision)
        return self

    def precision(self) -> Precision:
        """The precision that the run ends in."""
        return Precision(weight_bits=self.weight_bits, activation_bits=self.activation_bits)


class PrecisionTable(Strict):
    """The precision of one net among several: `{ weight_bits = 4, activation_bits = 4 }`."""

    weight_bits: GridBits
    activation_bits: GridBits

    @model_validator(mode="after")
    def _bits_can_be(self) -> Self:
        checked(self.build)
        return self

    def build(self) -> Precision:
        """The precision."""
        return Precision(weight_bits=self.weight_bits, activation_bits=self.activation_bits)


#: Whether the learning rate's schedule runs over the whole run, or anew over each stage.
LearningRateSpan = Literal["per_stage", "whole_run"]


def restarts(span: LearningRateSpan, context: RecipeContext) -> TrainingSettings | None:
    """The settings whose schedule each stage runs anew; None for one schedule over the whole run."""
    return context.settings if span == "per_stage" else None
