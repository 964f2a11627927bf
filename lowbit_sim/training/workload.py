"""The workload of a training step: everything that it runs, as events that a cost model prices.

Emulated layers emit their own events. The rest is added here: what a model runs natively (`native_events.py`), the
loss, the sums of gradients where a tensor has several readers, and the optimiser, which reads each weight, its
gradient and the optimiser's state and writes weight and state.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.ops.billing import kept_bytes, kept_once
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.trace import VectorEvent, WorkloadTrace, emit, record
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.native_events import native_events
from lowbit_sim.training.optimizers import LowPrecisionOptimizer


def trace_training_step(
    model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: Optimizer
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

    Returns:
        The step's events: forward, loss, backward, update.

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
    with deterministic(0), record() as trace, kept_once(), native_events(twin):
        logits = twin(inputs)
        emit(_loss_event(logits, read=1, write=0, kept=kept_bytes(logits)))
        loss = F.cross_entropy(logits, targets.to(logits.device))
        sums = _gradient_sums(loss)
        emit(_loss_event(logits, read=1, write=1))
        loss.backward()
        if sums is not None:
            emit(sums)
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


def _loss_event(logits: Tensor, *, read: int, write: int, kept: int = 0) -> VectorEvent:
    """Softmax and cross-entropy in one pass over the logits (forward), or the gradient from them (backward)."""
    size = logits.numel() * logits.element_size()
    return VectorEvent(
        kind="loss",
        elements=logits.numel(),
        read_bytes=read * size,
        write_bytes=write * size,
        kept_bytes=kept,
    )


def _gradient_sums(loss: Tensor) -> VectorEvent | None:
    """The additions of gradients in a backward pass: a tensor with n readers gets n gradients, which are added up.

    Read off autograd's graph: an edge into a node's output is one gradient of it. A residual branch is such a tensor,
    and so is the weight of a recurrent layer, once for each time step.
    """
    edges: Counter[tuple[Any, int]] = Counter()
    nodes, seen = [loss.grad_fn], {loss.grad_fn}
    while nodes:
        node = nodes.pop()
        for source, number in getattr(node, "next_functions", ()):
            if source is None:
                continue
            edges[source, number] += 1
            if source not in seen:
                seen.add(source)
                nodes.append(source)
    elements = sum((n - 1) * _gradient_size(*edge) for edge, n in edges.items() if n > 1)
    if not elements:
        return None
    size = elements * FLOAT_BYTES
    return VectorEvent(kind="activation", elements=elements, read_bytes=2 * size, write_bytes=size)


def _gradient_size(node: Any, number: int) -> int:
    """Elements of the gradient that enters a node of autograd's graph."""
    variable = getattr(node, "variable", None)
    return variable.numel() if variable is not None else math.prod(node._input_metadata[number].shape)


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
