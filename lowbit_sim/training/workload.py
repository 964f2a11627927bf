"""The workload of a training step: everything that it runs, as events that a cost model prices.

Emulated layers emit their own events. The rest is added here: what a model runs natively (`native_events.py`), the
loss, the sums of gradients where a tensor has several readers (`gradient_sums.py`), and the optimiser, which reads
each weight, its gradient and the optimiser's state and writes weight and state.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.ops.billing import kept_bytes, kept_once
from lowbit_sim.ops.stored import memory_bytes
from lowbit_sim.trace import VectorEvent, WorkloadTrace, emit, record
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.gradient_sums import bill_gradient_sums
from lowbit_sim.training.native_events import native_events
from lowbit_sim.training.optimizers import LowPrecisionOptimizer
from lowbit_sim.training.recipe import Composed, Recipe, Step, compose


def trace_training_step(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    optimizer: Optimizer,
    *,
    recipes: Sequence[Recipe] = (),
) -> WorkloadTrace:
    """Run one training step on a copy of a model and record it; the model and the optimiser stay as they are.

    With inputs on torch's "meta" device nothing is computed and no memory is taken: only shapes pass through the
    step, and the events are those of a real one but for what only numbers can tell (see `trace`). The model may be on
    the CPU or on the meta device then.

    Args:
        model: The model, native or converted.
        inputs: A batch [B, ...].
        targets: int64 [B], class indices, for the cross-entropy loss.
        optimizer: The optimiser of the model's parameters.
        recipes: Training algorithms, which act on the step as in training; copies of them do. The step that is
            recorded then is the second of two, so that what they keep from step to step is there.

    Returns:
        The step's events: forward, loss, backward, update, and what the recipes bill themselves.

    Raises:
        ValueError: A native module or product whose cost is not known, or, on the meta device, work that depends on
            the data.
        NotANumberError: A NaN reaches a quantiser.
    """
    twin = copy.deepcopy(model)
    if inputs.is_meta:
        twin.to("meta")
    if not twin.training:  # in a model that trains, modules that are frozen stay so
        twin.train()
    stepper = _twin_optimizer(optimizer, model, twin)
    targets, recipe = targets.to(inputs.device), compose(copy.deepcopy(list(recipes)))
    with deterministic(0):
        if recipes:
            _run_step(twin, inputs, targets, stepper, recipe)
            stepper.zero_grad(set_to_none=True)
        with record() as trace, kept_once(), native_events(twin):
            _run_step(twin, inputs, targets, stepper, recipe)
    return trace


def _run_step(
    model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: Optimizer, recipe: Composed
) -> None:
    """Forward, loss, backward and update of a step, with the events that nobody else emits."""
    step = _step(model, inputs, targets, optimizer) if recipe.by_name else None
    if step is not None:
        recipe.before_step(step)
    logits = model(inputs)
    emit(_loss_event(logits, read=1, write=0, kept=kept_bytes(logits)))
    loss = F.cross_entropy(logits, targets)
    bill_gradient_sums(loss)
    emit(_loss_event(logits, read=1, write=1))
    loss.backward()
    if step is not None:
        recipe.on_gradients(step)
    optimizer.step()
    if not isinstance(optimizer, LowPrecisionOptimizer):  # which bills itself, by its formats
        emit(_update_event(optimizer))
    if step is not None:
        recipe.after_step(step)


def _step(model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: Optimizer) -> Step:
    """The step as recipes see it; an `Examples` has an input for each target, which a model need not."""
    batch = Examples(inputs=inputs, targets=targets)
    return Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=batch)


def _twin_optimizer(optimizer: Optimizer, model: nn.Module, twin: nn.Module) -> Optimizer:
    """A fresh optimiser of the same kind and hyperparameters over the copy's parameters."""
    twins = dict(zip(map(id, model.parameters()), twin.parameters(), strict=True))
    groups = [
        {**group, "params": [twins[id(p)] for p in group["params"] if id(p) in twins]}
        for group in optimizer.param_groups
    ]
    return type(optimizer)(groups)  # pyright: ignore[reportCallIssue]


def _loss_event(logits: Tensor, *, read: int, write: int, kept: int = 0) -> VectorEvent:
    """Softmax and cross-entropy in one pass over the logits (forward), or the gradient from them (backward)."""
    return VectorEvent(
        kind="loss",
        elements=logits.numel(),
        read_bytes=read * memory_bytes(logits),
        write_bytes=write * logits.numel() * logits.element_size(),
        kept_bytes=kept,
    )


def _update_event(optimizer: Optimizer) -> VectorEvent:
    """The update that just ran: weights, gradients and the state tensors of a weight's shape (momentum)."""
    elements = weights = gradients = states = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            buffers = [s for s in optimizer.state[p].values() if isinstance(s, Tensor) and s.shape == p.shape]
            elements += p.numel()
            weights += p.numel() * p.element_size()
            gradients += p.grad.numel() * p.grad.element_size()
            states += sum(s.numel() * s.element_size() for s in buffers)
    return VectorEvent(
        kind="optimizer_update",
        elements=elements,
        read_bytes=weights + gradients + states,
        write_bytes=weights + states,
        role="update",
        parameter_bytes=weights,
        gradient_bytes=gradients,
        state_bytes=states,
    )
