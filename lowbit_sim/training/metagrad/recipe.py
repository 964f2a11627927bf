"""MetaGrad: gradients corrected by a hypernetwork M with parameters phi, which the next step's loss trains.

    g_t     = dL_t/dW_t, out of the emulated backward GEMMs;  ^g_t = Q_G(g_t)
    dL/dphi = < g_t, dW_t/dM_{t-1} dM_phi(^g_{t-1}, W~_{t-1}, ...)/dphi >          phi <- its own optimiser
    p.grad  = M_phi(^g_t, W~_t, ...) calibration(W_t)                              W_{t+1} <- the model's optimiser

W_t was committed with M of step t-1 in it, and step t's loss was computed with W_t: the vector-Jacobian product is
the derivative of that loss by phi. M_{t-1} is computed again, chunk by chunk, from what was kept of step t-1, with
the phi that it was computed with; so no graph outlives a step, and any loop with an optimiser of a known derivative
will do. The direction that is committed is always the new one: phi learns first, then the gradient is corrected.

Sources: MetaGrad, arXiv 2303.02347 (the gradient, quantised, in the forward graph of the next iteration); Chen et
al., "MetaQuant", NeurIPS 2019, algorithm 1. The hypernetworks' start at the identity, the exact derivatives and the
gradient at the committed weights in place of a look-ahead forward pass are ours.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.nn.weight_preprocessing import WeightPreprocessing
from lowbit_sim.numerics.random import Stream
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.training.error_feedback import ErrorFeedback
from lowbit_sim.training.hypergradient import Hypergradient
from lowbit_sim.training.metagrad.billing import bill_passes, bill_quantizer
from lowbit_sim.training.metagrad.commit import Commit, give
from lowbit_sim.training.metagrad.coordinates import norms
from lowbit_sim.training.metagrad.effect import Effect
from lowbit_sim.training.metagrad.hypernetworks import Hypernetwork
from lowbit_sim.training.metagrad.learner import Learner
from lowbit_sim.training.metagrad.memory import Memory
from lowbit_sim.training.metagrad.phi import PhiTraining
from lowbit_sim.training.metagrad.refinement import (
    Refinement,
    check_optimizer,
    check_refinement,
)
from lowbit_sim.training.metagrad.targets import Target, find_targets
from lowbit_sim.training.recipe import Recipe, Step

#: The operand number of Q_G's random bits: layers draw from 0 to 10 modulo 16, updates from 12 to 15.
GRADIENT_STREAM = 11

_STATE = ("learner", "effect", "steps")


_DEFAULT_PHI = PhiTraining()


class MetaGrad:
    """A recipe; see the module.

    With M the identity, training is plain training, bit for bit. A recipe before it may change the gradients that it
    sees, which for pre-processed weights are those at W^, without the calibration; one behind it may scale those that
    it gives (as clipping does). Learning rates may be scaled by recipes on either side. A step whose update is left
    out teaches phi nothing. Gradients that hold inf or NaN pass as they are, and nothing is kept of them: a loop that
    leaves such a step's update out goes on as if the step had not been.

    From `before_step` to `on_gradients` the gradients of pre-processed weights leave their calibration out. A step
    that ends in between gives it back when its `Step` is gone, at the latest with the next step of the recipe; a
    loop whose `Step` outlives it calls `abandon_step`.

    Args:
        hypernetwork: M, native or converted; it is trained in place.
        phi: How its parameters are trained.
        parameters: Names of the parameters to correct, with shell wildcards; None for the weights of emulated layers.
        gradient_quantizer: Q_G, for each parameter's gradient as a whole; None for the gradient as the emulated GEMMs
            give it.
        refinement: How the optimiser's update passes the derivative on: "exact", or MetaQuant's "residual".
        seed: Seed of Q_G's random bits and of phi's low-precision update, 0 to 2^32 - 1.

    Raises:
        TypeError: A hypernetwork or quantiser that is none, or patterns that are one string.
        ValueError: An unknown refinement, no names, a Q_G whose scale depends on past tensors, or a seed outside its
            range.
    """

    def __init__(
        self,
        hypernetwork: Hypernetwork,
        *,
        phi: PhiTraining = _DEFAULT_PHI,
        parameters: Sequence[str] | None = None,
        gradient_quantizer: Quantizer | None = None,
        refinement: Refinement = "exact",
        seed: int = 0,
    ) -> None:
        if not isinstance(hypernetwork, Hypernetwork):
            raise TypeError(
                "hypernetwork is FCGrad(), MultiFC(), LSTMFC(), MomentFC() or another Hypernetwork, got "
                f"{hypernetwork!r}"
            )
        if isinstance(parameters, str):
            raise TypeError(f"parameters are a list of patterns, also of one: ({parameters!r},)")
        if parameters is not None and not parameters:
            raise ValueError(
                "parameters is empty: leave it out for every emulated weight, or leave MetaGrad out"
            )
        check_refinement(refinement)
        Stream(seed=seed)  # refuses what could not address random bits later
        _check_quantizer(gradient_quantizer)
        self.parameters, self.seed = tuple(parameters or ()), seed
        self.refinement: Refinement = refinement
        self.gradient_quantizer = gradient_quantizer
        self._learner = Learner(hypernetwork=hypernetwork, phi=phi, seed=seed)
        self._effect = Effect()
        self._steps = 0
        self._rate: float | None = None
        self._commit: Commit | None = None
        self._calibrate_again: weakref.finalize[..., Any] | None = None

    @property
    def hypernetwork(self) -> Hypernetwork:
        """M."""
        return self._learner.hypernetwork

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        """Refuse recipes behind this one that take the corrected gradients for something that they are not.

        Raises:
            ValueError: Naming the recipe.
        """
        for name, recipe in behind.items():
            if isinstance(recipe, Hypergradient):
                raise ValueError(
                    f"{name} behind it would take the corrected gradients for the loss' derivatives: name {name} "
                    "before it"
                )
            if isinstance(recipe, ErrorFeedback):
                raise ValueError(
                    f"{name} behind it would round the corrected gradients and add what earlier ones lost, and phi "
                    f"learns as if a weight moved by a multiple of its own: name {name} before it, which then "
                    "quantises what it reads"
                )

    def before_step(self, step: Step) -> None:
        """Have pre-processed weights leave their calibration to this recipe."""
        check_optimizer(step.optimizer, self.refinement)
        self.abandon_step()  # the step before, if it ended early
        targets = find_targets(step.model, self.parameters)
        # The schedule's: recipes scale learning rates in `on_gradients`, and phi's schedule does not follow those.
        self._rate = _learning_rate(step.optimizer, targets[0].parameter)
        found = [t.preprocessing for t in targets if t.preprocessing is not None]
        if found:
            _leave_out_calibration(found, True)
            self._calibrate_again = weakref.finalize(step, _leave_out_calibration, found, False)

    @torch.no_grad()
    def on_gradients(self, step: Step) -> None:
        """Train phi with this step's gradient, then correct it."""
        targets = find_targets(step.model, self.parameters)
        shapes = {t.name: tuple(t.parameter.shape) for t in targets}
        memory = self._learner.prepare(shapes, targets[0].parameter.device)
        self._effect.start(step.epoch)
        gradient = memory.layout.join([_gradient(t.parameter) for t in targets], self._learner.dtype)
        _check_left_out(targets)
        calibration = self._calibration(memory, targets)
        rate = _learning_rate(step.optimizer, targets[0].parameter) if self._rate is None else self._rate
        self.abandon_step()  # nothing is left out any longer
        if not _is_finite(gradient):
            self._pass_on(memory, targets, calibration, step.optimizer)
            return
        self._learn(memory, gradient, calibration, rate)
        self._keep(memory, targets, gradient, calibration)
        self._give(memory, targets, step.optimizer)
        bill_passes(memory, with_scales=self.hypernetwork.reads_scales)
        self._steps += 1

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Note how far each weight moved for its corrected gradient."""
        commit, memory = self._commit, self._learner.memory
        if commit is not None and memory is not None and commit.happened:
            memory.factors = commit.factors(step.optimizer, self.refinement)
        self.abandon_step()

    def abandon_step(self) -> None:
        """Leave nothing of a step that ended early on the model and its optimiser."""
        if self._calibrate_again is not None:
            self._calibrate_again()
        if self._commit is not None:
            self._commit.end()
        self._calibrate_again = self._commit = self._rate = None

    def measurements(self) -> dict[str, float]:
        """Means over the epoch's steps (see `effect.py`), and the hypernetwork's own values."""
        return {**self._effect.measurements(), **self._learner.own_measurements()}

    def memory_bytes(self) -> dict[str, int]:
        """Bytes kept between steps beside plain training's, by what is kept (see `memory.py`)."""
        return self._learner.memory_bytes()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on bit for bit, between two steps; tensors are copied."""
        values = (self._learner.state_dict(), self._effect.state_dict(), self._steps)
        return dict(zip(_STATE, values, strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`; what belongs to the model's parameters is put in place at the next step.

        Raises:
            ValueError: Not such a state, or that of another hypernetwork.
        """
        if not isinstance(state, dict) or set(state) != set(_STATE):
            raise ValueError(f"a state of MetaGrad has the keys {', '.join(_STATE)}")
        self._learner.load_state_dict(state["learner"])
        self._effect.load_state_dict(state["effect"])
        self._steps = state["steps"]
        self.abandon_step()

    def _learn(self, memory: Memory, gradient: Tensor, calibration: Tensor | None, rate: float) -> None:
        if memory.gradient is None:
            return
        direction = None if memory.factors is None else memory.direction(gradient, calibration)
        norm = self._learner.learn(direction, rate)
        if norm is not None:
            self._effect.updated(norm)

    def _keep(
        self, memory: Memory, targets: Sequence[Target], gradient: Tensor, calibration: Tensor | None
    ) -> None:
        reading, decay = self.hypernetwork.weight_reading, self.hypernetwork.moment_decay
        memory.fold(decay)
        weight = None
        if reading != "none":
            weight = memory.layout.join([t.reading(reading) for t in targets], self._learner.dtype)
        memory.keep(self._quantized(memory, gradient), weight, moment_read=decay is not None)
        memory.calibration = calibration

    def _quantized(self, memory: Memory, gradient: Tensor) -> Tensor:
        quantizer = self.gradient_quantizer
        if quantizer is None:
            return gradient
        pieces = []
        for site, part in enumerate(memory.layout.part(gradient)):
            stream = Stream(seed=self.seed, step=self._steps, site=site, operand=GRADIENT_STREAM)
            bill_quantizer(quantizer, part)
            pieces.append(quantizer(part, stream=stream).dequantize())
        return memory.layout.join(pieces, gradient.dtype)

    def _calibration(self, memory: Memory, targets: Sequence[Target]) -> Tensor | None:
        """That of pre-processed weights."""
        if all(t.preprocessing is None for t in targets):
            return None
        found = [
            torch.ones_like(t.parameter)
            if t.preprocessing is None
            else t.preprocessing.calibration(t.parameter.detach())
            for t in targets
        ]
        return memory.layout.join(found, self._learner.dtype)

    def _pass_on(
        self, memory: Memory, targets: Sequence[Target], calibration: Tensor | None, optimizer: Optimizer
    ) -> None:
        """Give gradients that are not finite as they are, with their calibration."""
        if calibration is not None:
            for target, part in zip(targets, memory.layout.part(calibration), strict=True):
                if target.parameter.grad is not None:
                    target.parameter.grad.mul_(part)
        # What was kept stays good if the weights do: the next gradient is then one at the same weights.
        self._commit = Commit(optimizer)

    def _give(self, memory: Memory, targets: Sequence[Target], optimizer: Optimizer) -> None:
        """Put the corrected gradients in their places."""
        assert memory.gradient is not None
        corrected = self._learner.correct()
        self._effect.corrected(memory.gradient, corrected)
        if memory.calibration is not None:
            corrected = corrected * memory.calibration
        parts, sizes = memory.layout.part(corrected), norms(corrected.split(memory.layout.sizes))
        given = [give(target, part, norm) for target, part, norm in zip(targets, parts, sizes, strict=True)]
        self._commit = Commit(optimizer, given)


def _leave_out_calibration(found: Sequence[WeightPreprocessing], left_out: bool) -> None:
    for preprocessing in found:
        preprocessing.passes_uncalibrated = left_out


def _check_left_out(targets: Sequence[Target]) -> None:
    for target in targets:
        if target.preprocessing is not None and not target.preprocessing.passes_uncalibrated:
            raise ValueError(
                f"the gradient of {target.name}, a pre-processed weight, came with its calibration: call before_step "
                "before the backward pass, with the same Step object as on_gradients"
            )


def _is_finite(gradient: Tensor) -> bool:
    """Whether all of it is; its largest magnitude neither overflows nor hides NaN."""
    return gradient.is_meta or math.isfinite(float(torch.linalg.vector_norm(gradient, math.inf)))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _learning_rate(optimizer: Optimizer, parameter: nn.Parameter) -> float:
    """That of a parameter's group."""
    for group in optimizer.param_groups:
        if any(p is parameter for p in group["params"]):
            return float(group["lr"])
    return float(optimizer.param_groups[0]["lr"])


def _check_quantizer(quantizer: Quantizer | None) -> None:
    if quantizer is None:
        return
    if not isinstance(quantizer, Quantizer):
        raise TypeError(f"gradient_quantizer is a Quantizer or None, got {quantizer!r}")
    if quantizer.is_stateful:
        raise ValueError(
            f"gradient_quantizer can't have a scale that depends on past steps ({quantizer.scale}): use AbsMaxScale, "
            "PowerOfTwoScale or FixedScale"
        )
