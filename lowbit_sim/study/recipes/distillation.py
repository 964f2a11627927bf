"""`{ name = "distillation", students = [{ weight_bits = 4, activation_bits = 4 }] }`: see `training.distillation`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lowbit_sim.config.tables import checked
from lowbit_sim.study.recipes.base import RecipeContext
from lowbit_sim.study.recipes.grid import LayersTable, PrecisionTable, list_to_tuple
from lowbit_sim.training.distillation import Distance, JointDistillation
from lowbit_sim.training.settings import TrainingSettings

_ANY = TrainingSettings(epochs=1, batch_size=1, learning_rate=1.0)


class DistillationTable(LayersTable):
    """Train a teacher in full precision and students of few bits together; the arm's model is the first student.

    Attributes:
        students: Precisions of further students.
        temperatures: One for all students, or one each, the arm's model first.
        student_weight, student_distillation: Weights of a student's two terms: cross-entropy, and distance to the
            teacher.
        teacher_weight, teacher_distillation: The teacher's: cross-entropy, and mean distance to the students.
        distance: Between logits.
        teacher_learning_rate: Left out, the run's.
    """

    name: Literal["distillation"]
    students: Annotated[tuple[PrecisionTable, ...], BeforeValidator(list_to_tuple)] = ()
    temperatures: Annotated[tuple[float, ...], BeforeValidator(list_to_tuple)] = (1.0,)
    student_weight: float = Field(default=0.7, ge=0)
    student_distillation: float = Field(default=0.7, ge=0)
    teacher_weight: float = Field(default=1.0, ge=0)
    teacher_distillation: float = Field(default=0.5, ge=0)
    distance: Distance = "kl"
    teacher_learning_rate: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(lambda: self._recipe(_ANY))
        return self

    def build(self, context: RecipeContext) -> JointDistillation:
        """The recipe."""
        return self._recipe(context.settings)

    def described(self) -> str:
        """The other keys that are not at their defaults, and the further students as "W4A4"."""
        words = self.model_copy(update={"students": ()}).described() if self.students else super().described()
        further = " and ".join(str(student.build()) for student in self.students)
        return f"{words} beside {further}" if further else words

    def _recipe(self, settings: TrainingSettings) -> JointDistillation:
        return JointDistillation(
            settings,
            students=[student.build() for student in self.students],
            temperatures=self.temperatures,
            student_weight=self.student_weight,
            student_distillation=self.student_distillation,
            teacher_weight=self.teacher_weight,
            teacher_distillation=self.teacher_distillation,
            distance=self.distance,
            teacher_learning_rate=self.teacher_learning_rate,
            layers=self.layers,
            clip=self.clip,
        )
