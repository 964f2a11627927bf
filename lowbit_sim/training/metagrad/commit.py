"""Corrected gradients on their way through one step of the optimiser: how far each weight moves for its own.

A recipe behind MetaGrad may scale the gradient, as clipping does, or the learning rate, as hypergradient descent
does, wherever it stands in the list. Both are read where the optimiser's step begins: the rate, which is part of the
derivative as it then is, and the scale, taken for a constant, as the ratio of the norms of a gradient that was
written to in between. During its step the optimiser itself may write to the gradient (SGD with nesterov and foreach
adds the momentum to it), which is none of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lowbit_sim.training.metagrad.refinement import Refinement, is_first_update, weight_per_gradient
from lowbit_sim.training.metagrad.targets import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """A corrected gradient as the parameter got it.

    Attributes:
        target: The parameter.
        gradient: Its gradient; None where it had none and got none.
        version: How often it had been overwritten.
        norm: Its norm.
    """

    target: Target
    gradient: Tensor | None
    version: int
    norm: Tensor


def give(target: Target, corrected: Tensor, norm: Tensor) -> Given:
    """Put a corrected gradient in its place."""
    grad = target.parameter.grad
    if grad is not None:
        grad.copy_(corrected)
    return Given(target=target, gradient=grad, version=0 if grad is None else grad._version, norm=norm)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Begun:
    """A parameter as the optimiser's step finds it.

    Attributes:
        parameter: The parameter.
        group: The options of its group, the learning rate among them.
        scale: How much its gradient was scaled behind MetaGrad; 0 where it has none.
        first: Whether this is its first update.
    """

    parameter: Tensor
    group: dict[str, Any]
    scale: Any
    first: bool


class Commit:
    """One step of an optimiser, watched from the moment at which the gradients have been given.

    Args:
        optimizer: The optimiser.
        given: The gradients; none for a step whose gradients were not corrected.
    """

    def __init__(self, optimizer: Optimizer, given: Sequence[Given] = ()) -> None:
        self._given = given
        self._begun: list[_Begun] | None = None
        self._hook = optimizer.register_step_pre_hook(self._begin)

    def end(self) -> None:
        """Watch no longer."""
        self._hook.remove()

    @property
    def happened(self) -> bool:
        """Whether the optimiser has stepped; a loop may leave an update out."""
        return self._begun is not None

    def factors(self, optimizer: Optimizer, refinement: Refinement) -> list[float | Tensor] | None:
        """For each parameter how far its weight moved for a change of its correction; None where none was committed.

        Raises:
            ValueError: A parameter that the optimiser does not update.
        """
        if not self._begun:
            return None
        return [_factor(optimizer, each, refinement) for each in self._begun]

    @torch.no_grad()
    def _begin(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        self._begun = [_begin(optimizer, groups, each) for each in self._given]


def _begin(optimizer: Optimizer, groups: dict[int, dict[str, Any]], given: Given) -> _Begun:
    p = given.target.parameter
    if id(p) not in groups:
        raise ValueError(
            f"MetaGrad corrects {given.target.name}, which the optimiser does not update: leave it out with "
            "`parameters`"
        )
    options = {key: value for key, value in groups[id(p)].items() if key != "params"}
    return _Begun(parameter=p, group=options, scale=_scale(given, p), first=is_first_update(optimizer, p))


def _scale(given: Given, p: Tensor) -> Any:
    """How much a gradient was scaled since it was given; 1 for one that was zero."""
    if p.grad is None or given.gradient is None:
        return 0.0
    if p.grad is given.gradient and p.grad._version == given.version:
        return 1.0
    ratio = torch.linalg.vector_norm(p.grad) / given.norm
    ratio = torch.where(given.norm > 0, ratio, 1)
    return ratio if p.grad.is_meta else float(ratio)


def _factor(optimizer: Optimizer, begun: _Begun, refinement: Refinement) -> float | Tensor:
    if isinstance(begun.scale, float) and begun.scale == 0:
        return 0.0
    factor = weight_per_gradient(
        optimizer, begun.group, begun.parameter, first=begun.first, refinement=refinement
    )
    return factor * begun.scale
