"""`{ name = "stochastic_precision", weight_bits = 2, activation_bits = 2 }`: see `training.stochastic_precision`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lowbit_sim.config.tables import checked
from lowbit_sim.study.recipes.base import RecipeContext
from lowbit_sim.study.recipes.grid import GridTable, Paths, Share
from lowbit_sim.training.stochastic_precision import BatchNorm, RiseSchedule, StochasticPrecision


class StochasticPrecisionTable(GridTable):
    """Quantise each block with a probability that rises to 1.

    Attributes:
        initial: The probability that the rise starts from.
        rise: Share of the run over which it rises.
        schedule: How it rises.
        pretraining: Share of the run in full precision before the rise.
        batch_norm: Whether both branches share the blocks' batch normalisations.
        blocks: Paths of the modules that are blocks, with shell wildcards; left out, each layer's path up to the
            first number.
    """

    name: Literal["stochastic_precision"]
    initial: float = Field(default=0.5, ge=0, le=1)
    rise: float = Field(default=0.75, ge=0, le=1)
    schedule: RiseSchedule = "linear"
    pretraining: Share = 0.0
    batch_norm: BatchNorm = "shared"
    blocks: Paths = None

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(lambda: self._recipe(seed=0, steps=1))
        return self

    def build(self, context: RecipeContext) -> StochasticPrecision:
        """The recipe."""
        return self._recipe(context.seed, context.steps)

    def _recipe(self, seed: int, steps: int) -> StochasticPrecision:
        return StochasticPrecision(
            self.precision(),
            steps=steps,
            seed=seed,
            initial=self.initial,
            rise=self.rise,
            schedule=self.schedule,
            pretraining=self.pretraining,
            batch_norm=self.batch_norm,
            blocks=self.blocks,
            layers=self.layers,
            clip=self.clip,
        )
