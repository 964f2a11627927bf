"""A corrected gradient on its way through the optimiser: given to the parameter, and how far the weight moved for it.

A recipe behind MetaGrad may scale the gradient, as clipping does; that scale, taken for a constant, is part of the
derivative. It is the ratio of the norms, looked at only where the gradient was written to in between.
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
        first: Whether the parameter's first update follows.
    """

    target: Target
    gradient: Tensor | None
    version: int
    norm: Tensor
    first: bool


def give(optimizer: Optimizer, target: Target, corrected: Tensor, norm: Tensor) -> Given:
    """Put a corrected gradient in its place."""
    grad = target.parameter.grad
    if grad is not None:
        grad.copy_(corrected)
    return Given(
        target=target,
        gradient=grad,
        version=0 if grad is None else grad._version,
        norm=norm,
        first=is_first_update(optimizer, target.parameter),
    )


def factors(optimizer: Optimizer, given: Sequence[Given], refinement: Refinement) -> list[float | Tensor]:
    """For each parameter how far its weight moved for a change of its correction, after the optimiser's step.

    Raises:
        ValueError: A parameter that the optimiser does not update.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return [_factor(optimizer, groups, each, refinement) for each in given]


def _factor(
    optimizer: Optimizer, groups: dict[int, dict[str, Any]], given: Given, refinement: Refinement
) -> float | Tensor:
    p = given.target.parameter
    if id(p) not in groups:
        raise ValueError(
            f"MetaGrad corrects {given.target.name}, which the optimiser does not update: leave it out with "
            "`parameters`"
        )
    if p.grad is None or given.gradient is None:
        return 0.0
    group = groups[id(p)]
    factor = weight_per_gradient(optimizer, group, p, first=given.first, refinement=refinement)
    if p.grad is given.gradient and p.grad._version == given.version:
        return factor
    return factor * _scale(p.grad, given.norm)


def _scale(after: Tensor, before: Tensor) -> Any:
    """How much a gradient was scaled; 1 for one that was zero."""
    ratio = torch.linalg.vector_norm(after) / before
    ratio = torch.where(before > 0, ratio, 1)
    return ratio if after.is_meta else float(ratio)
