"""`{ name = "guided", bits = 2 }`: see `training.guided`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lowbit_sim.config.tables import checked
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.study.recipes.grid import GridBits, Paths
from lowbit_sim.training.guided import GuidedTraining
from lowbit_sim.training.settings import TrainingSettings

_ANY = TrainingSettings(epochs=1, batch_size=1, learning_rate=1.0)


class GuidedTable(RecipeTable):
    """Train a net in full precision beside the arm's model, with late features that pull on both.

    Attributes:
        bits: Of the quantiser through which features are compared.
        feature_weight: Weight of their distance in both losses.
        teacher_weight: Weight of the cross-entropy of the net in full precision.
        power: 1 for the mean magnitude of the differences, 2 for half the mean square.
        features: Paths of the modules whose outputs are compared; left out, those of the last two blocks.
        teacher_learning_rate: Of the net in full precision; left out, the run's.
        clip: Upper end of the quantiser's range.
    """

    name: Literal["guided"]
    bits: GridBits
    feature_weight: float = Field(default=1.0, gt=0)
    teacher_weight: float = Field(default=1.0, ge=0)
    power: Literal[1, 2] = 1
    features: Paths = None
    teacher_learning_rate: float | None = Field(default=None, gt=0)
    clip: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(lambda: self._recipe(_ANY))
        return self

    def build(self, context: RecipeContext) -> GuidedTraining:
        """The recipe."""
        return self._recipe(context.settings)

    def _recipe(self, settings: TrainingSettings) -> GuidedTraining:
        return GuidedTraining(
            settings,
            bits=self.bits,
            feature_weight=self.feature_weight,
            teacher_weight=self.teacher_weight,
            power=self.power,
            features=self.features,
            teacher_learning_rate=self.teacher_learning_rate,
            clip=self.clip,
        )
