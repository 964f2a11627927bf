"""Joint knowledge distillation: a teacher in full precision and J students of few bits, trained together.

    student j    lambda_s CE(z_j, y) + lambda_skl T_j^2 KL( softmax(z_T / T_j) || softmax(z_j / T_j) )
    teacher      lambda_t CE(z_T, y) + lambda_tkl (1/J) sum_j T_j^2 KL( softmax(z_j / T_j) || softmax(z_T / T_j) )

each with the other's logits taken for constants, so that the derivative of the student's second term by z_j is
lambda_skl T_j (softmax(z_j / T_j) - softmax(z_T / T_j)), over the batch's size. With `distance="mse"` the mean
squared difference of the logits stands in the place of T^2 KL.

The model is student 1, quantised by its arm's numerics or by recipes behind this one; further students are copies of
it with DoReFa's grids (`nn.precision_switch`). The teacher is a copy of it with native layers. Every net has an
optimiser of its own and updates after all forward passes.

Source: Zhuang et al., "Effective Training of Convolutional Neural Networks with Low-bitwidth Weights and
Activations", TPAMI 2021 (arXiv 1908.04680), on joint knowledge distillation. The losses and the defaults, which are
those for CIFAR-100, are those of the authors' code. Theirs has nesterov momentum; here every net has the run's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.nn.dorefa_grid import Precision, check_clip
from lowbit_sim.nn.precision_switch import add_switches, set_precision, switches
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.trace import VectorEvent, emit, recording
from lowbit_sim.training.companion import Companion, full_precision_copy, kl_divergence, refuse_changed
from lowbit_sim.training.recipe import ForwardPass, Recipe, Step
from lowbit_sim.training.settings import TrainingSettings

Distance = Literal["kl", "mse"]


class JointDistillation:
    """A recipe; see the module.

    Args:
        settings: The run's hyperparameters.
        students: Precisions of further students beside the model.
        temperatures: T_j of each student, the model's first; one for all of them, or one each.
        student_weight, student_distillation: lambda_s and lambda_skl, at least 0 and not both 0.
        teacher_weight, teacher_distillation: lambda_t and lambda_tkl, the same.
        distance: "kl" or "mse".
        teacher_learning_rate: The teacher's; None for the run's.
        layers: Patterns of the layers that further students quantise; None for all but the first and the last.
        clip: Upper end of their inputs' range.

    Raises:
        ValueError: A weight, a temperature or a rate outside its range, or not one temperature for each student.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        students: Sequence[Precision] = (),
        temperatures: Sequence[float] = (1.0,),
        student_weight: float = 0.7,
        student_distillation: float = 0.7,
        teacher_weight: float = 1.0,
        teacher_distillation: float = 0.5,
        distance: Distance = "kl",
        teacher_learning_rate: float | None = None,
        layers: Sequence[str] | None = None,
        clip: float = 1.0,
    ) -> None:
        check_clip(clip)
        check_weights(student_weight=student_weight, student_distillation=student_distillation)
        check_weights(teacher_weight=teacher_weight, teacher_distillation=teacher_distillation)
        if distance not in get_args(Distance):
            raise ValueError(unknown("distance of distillation", distance, get_args(Distance)))
        self.temperatures = _each(temperatures, 1 + len(students))
        self.settings, self.students, self.distance = settings, tuple(students), distance
        self.student_weight, self.student_distillation = student_weight, student_distillation
        self.teacher_weight, self.teacher_distillation = teacher_weight, teacher_distillation
        self.teacher_learning_rate = checked_rate(settings, teacher_learning_rate)
        self.layers = None if layers is None else tuple(layers)
        self.clip = clip
        self._nets: list[Companion] = []

    @property
    def teacher(self) -> nn.Module:
        """The teacher, once the model is prepared."""
        return self._nets[0].net

    @property
    def further_students(self) -> list[nn.Module]:
        """The students beside the model."""
        return [student.net for student in self._nets[1:]]

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        """Refuse recipes before this one that change the model which it copies."""
        refuse_changed(before)

    def prepare(self, model: nn.Module) -> None:
        """Copy the model for the teacher and the further students.

        Raises:
            ValueError: A model whose weights are pre-processed already, or layers that students can't quantise.
        """
        teacher = full_precision_copy(model)
        self._nets = [Companion("teacher", teacher, self.settings, self.teacher_learning_rate)]
        for number, precision in enumerate(self.students, start=2):
            student = quantized_copy(model, precision, self.layers, self.clip)
            name = f"student_{number}"
            self._nets.append(Companion(name, student, self.settings, self.settings.learning_rate))

    def before_step(self, step: Step) -> None:
        """Clear the other nets' gradients, and take the run's learning rate over."""
        for net in self._nets:
            net.start(step.epoch, float(step.optimizer.param_groups[0]["lr"]))

    def on_loss(self, step: Step, forward: ForwardPass, loss: Tensor) -> Tensor:
        """The model's loss as a student; the other nets get their gradients.

        Raises:
            ValueError: The model was not prepared.
        """
        if not self._nets:
            raise ValueError("distillation needs prepare(model) before the first step: it makes the teacher")
        teacher, *others = self._nets
        wanted = teacher.forward(forward)
        followers = [forward.logits]
        for student, temperature in zip(others, self.temperatures[1:], strict=True):
            logits = student.forward(forward)
            entropy = F.cross_entropy(logits, forward.part.targets)
            student.backward(self._student_loss(entropy, logits, wanted, temperature), forward.share)
            followers.append(logits)
        teacher.backward(self._teacher_loss(wanted, followers, forward.part.targets), forward.share)
        return self._student_loss(loss, forward.logits, wanted, self.temperatures[0])

    def on_gradients(self, step: Step) -> None:
        """Nothing."""

    def after_step(self, step: Step) -> None:
        """Update the other nets."""
        for net in self._nets:
            net.step()

    def abandon_step(self) -> None:
        """Forget the other nets' gradients."""
        for net in self._nets:
            net.abandon()

    def measurements(self) -> dict[str, float]:
        """Each other net's mean cross-entropy and accuracy over the epoch's training examples."""
        return {name: value for net in self._nets for name, value in net.measurements().items()}

    def state_dict(self) -> dict[str, Any]:
        """The other nets and their optimisers."""
        return {net.name: net.state_dict() for net in self._nets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, with the model prepared.

        Raises:
            ValueError: The state of other nets.
        """
        names = [net.name for net in self._nets]
        if list(state) != names:
            raise ValueError(
                f"the state is that of {', '.join(state)}, the nets are {', '.join(names) or 'none'}"
            )
        for net in self._nets:
            net.load_state_dict(state[net.name])

    def _student_loss(self, entropy: Tensor, logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        term = self._distance(wanted, logits, temperature)
        return weighted(self.student_weight, entropy, self.student_distillation, term)

    def _teacher_loss(self, logits: Tensor, followers: Sequence[Tensor], targets: Tensor) -> Tensor:
        def mean() -> Tensor:
            terms = [
                self._distance(student, logits, temperature)()
                for student, temperature in zip(followers, self.temperatures, strict=True)
            ]
            return sum(terms[1:], start=terms[0]) / len(terms)

        entropy = F.cross_entropy(logits, targets)
        return weighted(self.teacher_weight, entropy, self.teacher_distillation, mean)

    def _distance(self, target: Tensor, logits: Tensor, temperature: float) -> Callable[[], Tensor]:
        def term() -> Tensor:
            bill_distance(logits)
            if self.distance == "mse":
                return F.mse_loss(logits, target.detach())
            return kl_divergence(target, logits, temperature)

        return term


def weighted(weight: float, loss: Tensor, factor: float, term: Callable[[], Tensor]) -> Tensor:
    """Weight times a loss plus factor times a term, which is not computed for a factor of 0."""
    kept = loss if weight == 1 else weight * loss
    return kept + factor * term() if factor else kept


def bill_distance(logits: Tensor) -> None:
    """Put the distance of two tensors on record: forward it reads both, backward too, and writes a gradient."""
    if recording():
        size = logits.numel() * FLOAT_BYTES
        emit(VectorEvent(kind="loss", elements=2 * logits.numel(), read_bytes=4 * size, write_bytes=size))


def quantized_copy(
    model: nn.Module, precision: Precision, layers: Sequence[str] | None, clip: float
) -> nn.Module:
    """A copy of a model with layers on DoReFa's grids.

    Raises:
        ValueError: Layers that can't be.
    """
    copied = copy.deepcopy(model)
    add_switches(copied, layers, clip=clip)
    for switch in switches(copied).values():
        switch.check(precision)
    set_precision(copied, precision)
    return copied


def checked_rate(settings: TrainingSettings, rate: float | None) -> float:
    """A teacher's learning rate; the run's, if there is none.

    Raises:
        ValueError: A rate that is not positive and finite.
    """
    if rate is None:
        return settings.learning_rate
    if not 0 < rate < math.inf:
        raise ValueError(f"teacher_learning_rate must be positive and finite, got {rate!r}")
    return rate


def check_weights(**weights: float) -> None:
    """Refuse the weights of a loss.

    Raises:
        ValueError: One is negative or not finite, or all are 0.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {weight!r}")
    if not any(weights.values()):
        raise ValueError(f"{' and '.join(weights)} must not be 0 throughout: the net would learn nothing")


def _each(temperatures: Sequence[float], count: int) -> tuple[float, ...]:
    found = tuple(temperatures) * count if len(temperatures) == 1 else tuple(temperatures)
    if len(found) != count:
        raise ValueError(f"each of the {count} students has one temperature, got {len(found)}: {list(found)}")
    for temperature in found:
        if not 0 < temperature < math.inf:
            raise ValueError(f"a temperature must be positive and finite, got {temperature!r}")
    return found
