"""The hyperparameters in a study file: `[training]`, and what an arm has in place of them.

[training]                                  [[arms]]
epochs = 12                                 name = "INT4, tuned"
batch_size = 32                             format = "int4"
learning_rate = 0.1                         training = { learning_rate = 0.03 }
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lowbit_sim.config.tables import Strict
from lowbit_sim.training.settings import OptimizerName, Schedule

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]


class TrainingTable(Strict):
    """Hyperparameters that all arms share; see `training.settings`."""

    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    optimizer: OptimizerName = "sgd"
    momentum: Momentum = 0.9
    second_moment_decay: Momentum = 0.999
    weight_decay: Decay = 0.0
    schedule: Schedule = "cosine"
    accumulation: Positive = 1
    recalibration_batches: Count = 0


class TrainingOverrides(Strict):
    """Those that an arm has in place of the study's; what is left out is the study's."""

    epochs: Positive | None = None
    batch_size: Positive | None = None
    learning_rate: Rate | None = None
    optimizer: OptimizerName | None = None
    momentum: Momentum | None = None
    second_moment_decay: Momentum | None = None
    weight_decay: Decay | None = None
    schedule: Schedule | None = None
    accumulation: Positive | None = None
    recalibration_batches: Count | None = None

    def on(self, shared: TrainingTable) -> TrainingTable:
        """The study's hyperparameters with these in their place."""
        return shared.model_copy(update=self.model_dump(exclude_none=True))
