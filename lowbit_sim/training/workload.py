"""The workload of a training step: everything that it runs, as events that a cost model prices.

Emulated layers emit their own events. The rest is added here: native modules (`native_events.py`), the loss,
and the optimiser, which reads each weight, its gradient and the optimiser's state and writes weight and state.
"""

from __future__ import annotations

import copy

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.trace import VectorEvent, WorkloadTrace, emit, record
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.native_events import native_events
from lowbit_sim.training.optimizers import LowPrecisionOptimizer


def trace_training_step(
    model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: Optimizer
) -> WorkloadTrace:
    """Run one training step on a copy of a model and record it; the model and the optimiser stay as they are.

    Products called as functions (`x @ y`, `F.scaled_dot_product_attention`) are seen; element-wise functions
    (`torch.relu` in a `forward`) are not: give them a module.

    Args:
        model: The model, native or converted.
        inputs: A batch [B, ...].
        targets: int64 [B], class indices, for the cross-entropy loss.
        optimizer: The optimiser of the model's parameters.

    Returns:
        The step's events: forward, loss, backward, update.

    Raises:
        ValueError: A native module or product whose cost is not known.
        NotANumberError: A NaN reaches a quantiser.
    """
    twin = copy.deepcopy(model)
    if not twin.training:  # in a model that trains, modules that are frozen stay so
        twin.train()
    stepper = _twin_optimizer(optimizer, model, twin)
    with deterministic(0), record() as trace, native_events(twin, (EmulatedLayer,)):
        logits = twin(inputs)
        emit(_loss_event(logits, read=1, write=0))
        loss = F.cross_entropy(logits, targets)
        emit(_loss_event(logits, read=1, write=1))
        loss.backward()
        stepper.step()
        if not isinstance(stepper, LowPrecisionOptimizer):  # which bills itself, by its formats
            emit(_update_event(stepper))
    return trace


def _twin_optimizer(optimizer: Optimizer, model: nn.Module, twin: nn.Module) -> Optimizer:
    """A fresh optimiser of the same kind and hyperparameters over the copy's parameters."""
    twins = dict(zip(map(id, model.parameters()), twin.parameters(), strict=True))
    groups = [
        {**group, "params": [twins[id(p)] for p in group["params"] if id(p) in twins]}
        for group in optimizer.param_groups
    ]
    return type(optimizer)(groups)  # pyright: ignore[reportCallIssue]


def _loss_event(logits: Tensor, *, read: int, write: int) -> VectorEvent:
    """Softmax and cross-entropy in one pass over the logits (forward), or the gradient from them (backward)."""
    size = logits.numel() * logits.element_size()
    return VectorEvent(kind="loss", elements=logits.numel(), read_bytes=read * size, write_bytes=write * size)


def _update_event(optimizer: Optimizer) -> VectorEvent:
    """The update that just ran: weights, gradients and the state tensors of a weight's shape (momentum)."""
    elements = read = write = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            buffers = [s for s in optimizer.state[p].values() if isinstance(s, Tensor) and s.shape == p.shape]
            state = sum(s.numel() * s.element_size() for s in buffers)
            weight = p.numel() * p.element_size()
            elements += p.numel()
            read += weight + p.grad.numel() * p.grad.element_size() + state
            write += weight + state
    return VectorEvent(
        kind="optimizer_update", elements=elements, read_bytes=read, write_bytes=write, role="update"
    )
