"""`{ name = "dorefa", weight_bits = 2, activation_bits = 2 }`: see `training.dorefa`."""

from __future__ import annotations

from typing import Literal

from lowbit_sim.study.recipes.base import RecipeContext
from lowbit_sim.study.recipes.grid import GridTable, LearningRateSpan, Share, restarts
from lowbit_sim.training.dorefa import dorefa
from lowbit_sim.training.staged_precision import StagedPrecision


class DoReFaTable(GridTable):
    """Quantise weights and inputs at once.

    Attributes:
        pretraining: Share of the run in full precision first.
        learning_rate: Whether the schedule of the learning rate starts anew after the pre-training.
    """

    name: Literal["dorefa"]
    pretraining: Share = 0.0
    learning_rate: LearningRateSpan = "per_stage"

    def build(self, context: RecipeContext) -> StagedPrecision:
        """The recipe."""
        return dorefa(
            self.precision(),
            steps=context.steps,
            pretraining=self.pretraining,
            layers=self.layers,
            clip=self.clip,
            restarts=restarts(self.learning_rate, context),
        )
