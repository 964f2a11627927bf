"""`{ name = "two_step", weight_bits = 2, activation_bits = 2 }`: see `training.two_step`."""

from __future__ import annotations

from typing import Literal

from lowbit_sim.study.recipes.base import RecipeContext
from lowbit_sim.study.recipes.grid import GridTable, LearningRateSpan, Share, restarts
from lowbit_sim.training.staged_precision import StagedPrecision
from lowbit_sim.training.two_step import two_step


class TwoStepTable(GridTable):
    """Quantise the weights first, then the inputs too.

    Attributes:
        pretraining: Share of the run in full precision first.
        weights_share: Share of the rest in which the weights alone are quantised.
        learning_rate: Whether the schedule of the learning rate starts anew with each stage.
    """

    name: Literal["two_step"]
    pretraining: Share = 0.0
    weights_share: Share = 0.5
    learning_rate: LearningRateSpan = "per_stage"

    def build(self, context: RecipeContext) -> StagedPrecision:
        """The recipe."""
        return two_step(
            self.precision(),
            steps=context.steps,
            pretraining=self.pretraining,
            weights_share=self.weights_share,
            layers=self.layers,
            clip=self.clip,
            restarts=restarts(self.learning_rate, context),
        )
