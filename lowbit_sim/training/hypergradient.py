"""Hypergradient descent: the learning rate, or one for each tensor, follows the derivative of the next loss.

The optimiser commits w_t = w_{t-1} - c lr_{t-1} u_{t-1}, with lr the schedule's rate, u the direction that the
optimiser makes of the gradients, and c the learned factor. The gradient g_t at w_t then gives

    dL_t/dc = -lr_{t-1} <g_t, u_{t-1}> = <g_t, w_t - w_{t-1}> / c
    additive:        c <- c - beta dL_t/dc
    multiplicative:  c <- c (1 - beta dL_t/dc / (|g_t| |lr_{t-1} u_{t-1}|))     (a cosine, whatever their lengths)

before the update of step t. At first c = 1. The second form of dL_t/dc holds for every optimiser whose update is
proportional to its learning rate, and is how it is computed: SGD with any momentum and weight decay, Adam and AdamW
(low-precision ones included, whose rounding is then part of the update), RMSprop, Adagrad.

Source: Baydin et al., "Online Learning Rate Adaptation with Hypergradient Descent", ICLR 2018, algorithms 1 to 3 and
the multiplicative rule of section 2. The paper adapts the rate alpha = c lr of a constant schedule; its additive beta
is ours times lr^2, its multiplicative one is ours. A factor for each tensor is our extension.

This is what a hypernetwork comes to that can only scale the gradient: the control of `MetaGrad`'s linear FCGrad.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor, nn

from lowbit_sim.nn.weight_preprocessing import check_calibrated
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import VectorEvent, emit, recording
from lowbit_sim.training.recipe import Step

Rule = Literal["additive", "multiplicative"]
Scope = Literal["model", "tensor"]

#: The key of the one factor that a whole model has; parameters have longer names.
_MODEL = ""


@dataclass(kw_only=True, eq=False)
class Hypergradient:
    """A recipe. With `hyper_learning_rate=0` it is plain training, bit for bit.

    It takes the gradients that it finds for the loss' derivatives, so it stands before recipes that change them, as
    clipping and MetaGrad do; behind clipping the slope is that along the clipped ones, and MetaGrad refuses it behind
    itself. Pre-processed weights with MetaGrad have no such gradients before it has run.

    Args:
        hyper_learning_rate: beta, at least 0.
        rule: "additive" or "multiplicative".
        scope: Whether the "model" has one factor, or each "tensor" (parameter) its own.

    Raises:
        ValueError: A rate that is negative or not finite, or an unknown rule or scope.
    """

    hyper_learning_rate: float
    rule: Rule = "additive"
    scope: Scope = "model"
    _factors: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _moves: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _groups: list[dict[str, Any]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.hyper_learning_rate < math.inf:
            raise ValueError(
                f"hyper_learning_rate must be at least 0 and finite, got {self.hyper_learning_rate}"
            )
        for what, got, known in (("rule", self.rule, get_args(Rule)), ("scope", self.scope, get_args(Scope))):
            if got not in known:
                raise ValueError(unknown(f"hypergradient {what}", got, known))

    @property
    def factors(self) -> dict[str, float]:
        """The learned factor of each parameter by its name, or with scope "model" the only one, under ""."""
        return dict(self._factors)

    def before_step(self, step: Step) -> None:
        """Nothing."""

    def on_gradients(self, step: Step) -> None:
        """Adapt the factors by what the last update did to this step's loss, and scale the learning rates.

        Raises:
            ValueError: A pre-processed weight whose gradient lacks its calibration.
        """
        check_calibrated(step.model, "hypergradient")
        trained = dict(_trained(step.model))
        if recording():
            emit(_bill(trained))
        for key, names in self._scopes(trained).items():
            factor = self._factors.setdefault(key, 1.0)
            moved = [name for name in names if name in self._moves and not trained[name].is_meta]
            if moved:
                pairs = [(_gradient(trained[name]), self._moves[name]) for name in moved]
                self._factors[key] = self._adapted(factor, pairs)
        self._scale_rates(step, trained)
        # Until the update is done, the weights before it stand in the place of its difference.
        self._moves = {name: p.detach().clone() for name, p in trained.items()}

    def after_step(self, step: Step) -> None:
        """Remember how the update moved each parameter, and give the optimiser its own learning rates back."""
        assert self._groups is not None, "after_step without on_gradients"
        step.optimizer.param_groups, self._groups = self._groups, None
        for name, p in step.model.named_parameters():
            if name in self._moves:
                factor = self._factors[self._key(name)]
                # A factor of 0 left no trace of the direction; such a factor stays.
                self._moves[name] = (p.detach() - self._moves[name]) / (factor or math.inf)

    def state_dict(self) -> dict[str, Any]:
        """The factors, and per unit of the factor how the last update moved each parameter."""
        return {
            "factors": dict(self._factors),
            "moves": {name: move.clone() for name, move in self._moves.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            ValueError: A state of the other scope.
        """
        if self.scope == "tensor" and _MODEL in state["factors"]:
            raise ValueError("the state has one factor for the model, but scope is 'tensor'")
        if self.scope == "model" and state["factors"].keys() - {_MODEL}:
            raise ValueError("the state has a factor for each tensor, but scope is 'model'")
        self._factors = dict(state["factors"])
        self._moves = {name: move.clone() for name, move in state["moves"].items()}

    def measurements(self) -> dict[str, float]:
        """The factor, or the smallest, the mean and the largest one."""
        factors = list(self._factors.values()) or [1.0]
        if self.scope == "model":
            return {"factor": factors[0]}
        mean = sum(factors) / len(factors)
        return {"smallest_factor": min(factors), "mean_factor": mean, "largest_factor": max(factors)}

    def _key(self, name: str) -> str:
        return name if self.scope == "tensor" else _MODEL

    def _scopes(self, trained: dict[str, nn.Parameter]) -> dict[str, list[str]]:
        """The parameters that share each factor."""
        found: dict[str, list[str]] = {}
        for name in trained:
            found.setdefault(self._key(name), []).append(name)
        return found

    def _adapted(self, factor: float, pairs: list[tuple[Tensor, Tensor]]) -> float:
        """A factor after one step of its rule, from gradients and the moves that preceded them."""
        slope = sum(_inner(gradient, move) for gradient, move in pairs)
        if self.rule == "additive":
            return factor - self.hyper_learning_rate * slope
        lengths = [math.sqrt(sum(_inner(t, t) for t in tensors)) for tensors in zip(*pairs, strict=True)]
        scale = lengths[0] * lengths[1]
        return factor * (1 - self.hyper_learning_rate * slope / scale) if scale else factor

    def _scale_rates(self, step: Step, trained: dict[str, nn.Parameter]) -> None:
        """Until `after_step`, give the optimiser a group for each parameter, with its learning rate.

        The optimiser's states belong to parameters, not to groups, so they are untouched.
        """
        factors = {id(p): self._factors[self._key(name)] for name, p in trained.items()}
        self._groups = step.optimizer.param_groups
        step.optimizer.param_groups = [
            {**group, "params": [p], "lr": group["lr"] * factors.get(id(p), 1.0)}
            for group in self._groups
            for p in group["params"]
        ]


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.grad is not None)


def _gradient(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad


def _inner(a: Tensor, b: Tensor) -> float:
    # A state that was loaded may lie on another device.
    return float((a.double() * b.to(a.device).double()).sum())


def _bill(trained: dict[str, nn.Parameter]) -> VectorEvent:
    """One multiply-add for each weight, which reads its gradient and its last move and writes the next one."""
    elements = sum(p.numel() for p in trained.values())
    size = sum(p.numel() * p.element_size() for p in trained.values())
    return VectorEvent(
        kind="optimizer_update",
        elements=elements,
        read_bytes=2 * size,
        write_bytes=size,
        role="overhead",
        state_bytes=size,
    )
