"""How far a weight moves for a change of its gradient: the derivative of an optimiser's update.

    W' = W - lr u(g)

    optimiser          dW'/dg ("exact")
    SGD                -lr
    SGD, momentum mu   -lr d, or with nesterov -lr (1 + mu d); d = 1 at first, then 1 - dampening
    Adam, AdamW        -lr / (1 - beta1^t) ((1 - beta1) / r - m' (1 - beta2) g' / (r^2 s sqrt(1 - beta2^t)))
                       with s = sqrt(v'), r = s / sqrt(1 - beta2^t) + eps, g' the gradient with its weight decay

Weight decay adds what does not depend on g. With `maximize` the sign is the other one. The low-precision optimisers
round what they keep; the derivative passes their rounding straight through. "residual" is MetaQuant's rule for any
optimiser: what it makes of the gradient is g plus a constant, so dW'/dg = -lr.

Source: Chen et al., MetaQuant, NeurIPS 2019, section 3.4 (the refinement pi and its constant residual); the exact
derivatives are ours.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.training.optimizers import SGD, Adam, AdamW

Refinement = Literal["exact", "residual"]

_SGD: tuple[type[Optimizer], ...] = (torch.optim.SGD, SGD)
_ADAM: tuple[type[Optimizer], ...] = (torch.optim.Adam, torch.optim.AdamW, Adam, AdamW)


def check_refinement(refinement: str) -> None:
    """Refuse an unknown rule.

    Raises:
        ValueError: Naming the known ones.
    """
    if refinement not in get_args(Refinement):
        raise ValueError(unknown("refinement", refinement, get_args(Refinement)))


def check_optimizer(optimizer: Optimizer, refinement: Refinement) -> None:
    """Refuse an optimiser whose derivative is not known.

    Raises:
        TypeError: Naming those that are supported. A subclass is refused too, as its update may be another one.
        ValueError: An option whose derivative is not known.
    """
    if refinement == "residual":
        return
    if type(optimizer) not in (*_SGD, *_ADAM):
        raise TypeError(
            f"the update's derivative is not known for {type(optimizer).__module__}.{type(optimizer).__name__}: "
            "supported are SGD, Adam and AdamW of torch.optim and of lowbit_sim; with refinement='residual' any "
            "optimiser's is taken to be -lr"
        )
    if any(group.get("amsgrad") for group in optimizer.param_groups):
        raise ValueError(
            "the update's derivative is not known for amsgrad=True: use Adam without it, or refinement='residual'"
        )


def is_first_update(optimizer: Optimizer, parameter: Tensor) -> bool:
    """Whether a parameter has no state yet: SGD's first momentum is the gradient itself, without dampening."""
    return not any(isinstance(value, Tensor) for value in optimizer.state.get(parameter, {}).values())


def weight_per_gradient(
    optimizer: Optimizer,
    group: dict[str, Any],
    parameter: Tensor,
    *,
    first: bool,
    refinement: Refinement,
) -> float | Tensor:
    """dW'/dg of the update that has just run.

    Args:
        optimizer: The optimiser, after its step.
        group: The parameter's group, with the learning rate of the step.
        parameter: The parameter, updated; `parameter.grad` is the gradient that the update read.
        first: Whether this was the parameter's first update (see `is_first_update`).
        refinement: The rule.

    Returns:
        One number for all coordinates, or one for each [shape of the parameter].
    """
    lr = float(group["lr"]) * (-1 if group.get("maximize") else 1)
    if refinement == "residual":
        return -lr
    if type(optimizer) in _ADAM:
        return _adam(group, parameter, optimizer.state[parameter])
    momentum, fresh = group["momentum"], 1.0 if first else 1 - group["dampening"]
    if not momentum:
        return -lr
    return -lr * (1 + momentum * fresh if group["nesterov"] else fresh)


def _adam(group: dict[str, Any], parameter: Tensor, state: dict[str, Any]) -> Tensor:
    """The sign of `maximize` is in the gradient: dW'/d(-g) (-1)."""
    sign, lr, (beta1, beta2) = -1.0 if group["maximize"] else 1.0, float(group["lr"]), group["betas"]
    mean, root, step = state["exp_avg"], state["exp_avg_sq"].sqrt(), float(state["step"])
    corrections = 1 - beta1**step, (1 - beta2**step) ** 0.5
    inverse = (root / corrections[1] + group["eps"]).reciprocal()
    assert parameter.grad is not None
    g = parameter.grad * sign
    if group["weight_decay"] and not group.get("decoupled_weight_decay"):
        # The weight that the decay read is the new one with the update taken back.
        g = g + group["weight_decay"] * (parameter.detach() + (lr / corrections[0]) * mean * inverse)
    through_root = mean * inverse * inverse * g * ((1 - beta2) / corrections[1]) / root
    through_root = torch.where(root > 0, through_root, 0)
    return ((1 - beta1) * inverse - through_root) * (-lr * sign / corrections[0])
