"""Guided training: a net of few bits and one in full precision are trained together, and late features pull on both.

    D      = sum_l mean |phi(a_l^low) - phi(a_l^full)|^p  (halved for p = 2),   phi = q_k(min(max(a, 0), clip) / clip)
    low    CE(z_low, y)  + lambda D              full    lambda_t CE(z_full, y) + lambda D

each with the other's features taken for constants: so both move, that in full precision towards features that the
other can reach. phi, the quantiser, maps both into a space that they share; the gradient passes its rounding straight
through. The model is the net of few bits, quantised by its arm's numerics or by recipes behind this one.

Source: Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks", CVPR 2018 (arXiv 1711.00205),
on guided training. That R = 1/2 ||phi(mu_F) - phi(mu_L)||^2 is recalled of the paper, not verified; that lambda is
about 0.1 to 1 for p = 1 and 100 to 500 for p = 2 is a third party's code. The mean over the elements, and the outputs
of the last two blocks as default, are ours. `teacher_weight=0` gives what that code does: the loss of the net in full
precision is left out, so that D alone trains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lowbit_sim.nn.dorefa_grid import Precision, check_clip, on_grid
from lowbit_sim.nn.precision_switch import block_of, inner_layers
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.training.companion import Companion, full_precision_copy, refuse_changed
from lowbit_sim.training.distillation import bill_distance, check_weights, checked_rate, weighted
from lowbit_sim.training.recipe import ForwardPass, Recipe, Step
from lowbit_sim.training.settings import TrainingSettings

#: Features that are compared if none are named: the outputs of so many last blocks.
_LAST_BLOCKS = 2


class GuidedTraining:
    """A recipe; see the module.

    Args:
        settings: The run's hyperparameters.
        bits: k of phi.
        feature_weight: lambda, positive.
        teacher_weight: lambda_t, at least 0.
        power: p, 1 or 2.
        features: Paths of the modules whose outputs are compared; None for those of the last two blocks.
        teacher_learning_rate: That of the net in full precision; None for the run's.
        clip: Upper end of phi's range.

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        *,
        bits: int,
        feature_weight: float = 1.0,
        teacher_weight: float = 1.0,
        power: int = 1,
        features: Sequence[str] | None = None,
        teacher_learning_rate: float | None = None,
        clip: float = 1.0,
    ) -> None:
        Precision(activation_bits=bits)  # refuses bits that no grid has
        check_clip(clip)
        check_weights(feature_weight=feature_weight)
        check_weights(teacher_weight=teacher_weight, feature_weight=feature_weight)
        if power not in (1, 2):
            raise ValueError(f"power is 1 or 2, got {power!r}")
        self.settings, self.bits, self.clip = settings, bits, clip
        self.feature_weight, self.teacher_weight, self.power = feature_weight, teacher_weight, power
        self.features = None if features is None else tuple(features)
        self.teacher_learning_rate = checked_rate(settings, teacher_learning_rate)
        self._net: Companion | None = None
        self._paths: tuple[str, ...] = ()
        self._seen: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._distances: list[float] = []
        self._epoch = -1

    @property
    def teacher(self) -> nn.Module:
        """The net in full precision, once the model is prepared."""
        return self._companion.net

    @property
    def compared(self) -> tuple[str, ...]:
        """Paths of the modules whose outputs are compared."""
        return self._paths

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        """Refuse recipes before this one that change the model which it copies."""
        refuse_changed(before)

    def prepare(self, model: nn.Module) -> None:
        """Copy the model, and find the features.

        Raises:
            ValueError: A model whose weights are pre-processed already, or a path that it does not have.
        """
        self._net = Companion(
            "teacher", full_precision_copy(model), self.settings, self.teacher_learning_rate
        )
        self._paths = _feature_paths(model, self.features)

    def before_step(self, step: Step) -> None:
        """Watch the model's features."""
        self.abandon_step()
        self._companion.start(step.epoch, float(step.optimizer.param_groups[0]["lr"]))
        if step.epoch != self._epoch:
            self._epoch, self._distances = step.epoch, []
        self._handles = _watch(step.model, self._paths, self._seen)

    def on_loss(self, step: Step, forward: ForwardPass, loss: Tensor) -> Tensor:
        """The model's loss; the other net gets its gradient."""
        teacher, own = self._companion, dict(self._seen)
        others: dict[str, Tensor] = {}
        handles = _watch(teacher.net, self._paths, others)
        try:
            logits = teacher.forward(forward)
        finally:
            for handle in handles:
                handle.remove()
        entropy = F.cross_entropy(logits, forward.part.targets)
        kept = self.teacher_weight * entropy if self.teacher_weight != 1 else entropy
        teacher.backward(kept + self.feature_weight * self._distance(others, own), forward.share)
        distance = self._distance(own, others)
        if not distance.is_meta:
            self._distances.append(float(distance.detach()))
        return weighted(1.0, loss, self.feature_weight, lambda: distance)

    def on_gradients(self, step: Step) -> None:
        """Nothing."""

    def after_step(self, step: Step) -> None:
        """Update the other net."""
        self._companion.step()
        self.abandon_step()

    def abandon_step(self) -> None:
        """Watch no longer, and forget the gradients."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._seen = [], {}
        if self._net is not None:
            self._net.abandon()

    def measurements(self) -> dict[str, float]:
        """Mean D over the epoch's forward passes; the other net's mean cross-entropy and accuracy in training."""
        values = self._distances
        mean = {"feature_distance": sum(values) / len(values)} if values else {}
        return {**mean, **self._companion.measurements()}

    def state_dict(self) -> dict[str, Any]:
        """The other net and its optimiser."""
        return {"teacher": self._companion.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, with the model prepared."""
        self._companion.load_state_dict(state["teacher"])

    @property
    def _companion(self) -> Companion:
        if self._net is None:
            raise ValueError(
                "guided training needs prepare(model) before the first step: it makes the other net"
            )
        return self._net

    def _distance(self, own: dict[str, Tensor], others: dict[str, Tensor]) -> Tensor:
        """D, differentiable in the first features alone."""
        terms = [self._term(own[path], others[path].detach()) for path in self._paths]
        return sum(terms[1:], start=terms[0])

    def _term(self, own: Tensor, other: Tensor) -> Tensor:
        bill_distance(own)
        difference = on_grid(own, self.bits, self.clip) - on_grid(other, self.bits, self.clip)
        return difference.abs().mean() if self.power == 1 else difference.square().mean() / 2


def _feature_paths(model: nn.Module, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        blocks = dict.fromkeys(block_of(path) for path in inner_layers(model))
        return tuple(blocks)[-_LAST_BLOCKS:]
    known = [path for path, _ in model.named_modules() if path]
    for path in given:
        if path not in known:
            raise ValueError(unknown("module whose output is compared", path, known))
    if not given:
        raise ValueError("features is empty: leave it out for the last blocks, or leave guided out")
    return tuple(given)


def _watch(model: nn.Module, paths: Sequence[str], seen: dict[str, Tensor]) -> list[RemovableHandle]:
    """Have the outputs of modules put into `seen` by their paths."""
    found = {path.removeprefix("module."): module for path, module in model.named_modules()}
    return [found[path].register_forward_hook(partial(_keep, seen, path)) for path in paths]


def _keep(seen: dict[str, Tensor], path: str, module: nn.Module, args: Any, output: Tensor) -> None:
    seen[path] = output
