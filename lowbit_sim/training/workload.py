"""The workload of a training step: everything that it runs, as events that a cost model prices.

Emulated layers emit their own events. The rest is added here: what a model runs natively (`native_events.py`), the
loss, the sums of gradients where a tensor has several readers (`gradient_sums.py`), and the optimiser, which reads
each weight, its gradient and the optimiser's state and writes weight and state.

With n micro-batches all but the update runs n times, and each but the first adds its gradient to the sum: it reads
both and writes the sum. Only one micro-batch's activations are kept at a time, those of the first and largest.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.ops.billing import kept_bytes, kept_once
from lowbit_sim.ops.stored import Written, memory_bytes, wrote
from lowbit_sim.trace import VectorEvent, WorkloadTrace, emit, record
from lowbit_sim.training.autocast import Autocast, forward
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.gradient_sums import bill_gradient_sums
from lowbit_sim.training.native_events import native_events
from lowbit_sim.training.optimizers import LowPrecisionOptimizer
from lowbit_sim.training.recipe import Composed, ForwardPass, Recipe, Step, compose


def trace_training_step(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    optimizer: Optimizer,
    *,
    recipes: Sequence[Recipe] = (),
    accumulation: int = 1,
    autocast: Autocast | None = None,
    index: int = 0,
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
        recipes: Training algorithms, which act on the step as in training; copies of them do. They have prepared the
            model. The step that is recorded then is the second of two, so that what they keep from step to step is
            there.
        accumulation: Micro-batches that the batch is divided into, in equal parts but for the last.
        autocast: "bf16" or "fp16" for products in that format, as in `TrainingSettings`, with "fp16" also for the
            pass that unscales the gradients; not on the meta device.
        index: Number of the step, which tells recipes in which of their stages it is.

    Returns:
        The step's events: forward, loss, backward, update, and what the recipes bill themselves.

    Raises:
        ValueError: A native module or product whose cost is not known, or, on the meta device, work that depends on
            the data; fewer examples than micro-batches, or autocast on the meta device.
        NotANumberError: A NaN reaches a quantiser.
    """
    if autocast is not None and inputs.is_meta:
        raise ValueError(
            f"torch casts no tensors without data: trace a step with autocast={autocast!r} on the CPU"
        )
    batches = _micro_batches(inputs, targets.to(inputs.device), accumulation)
    twin = copy.deepcopy(model)
    if inputs.is_meta:
        twin.to("meta")
    if not twin.training:  # in a model that trains, modules that are frozen stay so
        twin.train()
    stepper = _twin_optimizer(optimizer, model, twin)
    batch = Examples(inputs=inputs, targets=targets.to(inputs.device)) if recipes else None
    step = _TracedStep(twin, batches, batch, stepper, compose(copy.deepcopy(list(recipes))), autocast, index)
    with deterministic(0):
        if recipes:
            step.run(WorkloadTrace())
            stepper.zero_grad(set_to_none=True)
        with record() as trace, kept_once(), native_events(twin):
            step.run(trace)
    return trace


def _micro_batches(inputs: Tensor, targets: Tensor, accumulation: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets of each micro-batch; of one, the batch as it is."""
    if accumulation == 1:
        return [(inputs, targets)]
    if not 1 < accumulation <= len(targets) or len(inputs) != len(targets):
        raise ValueError(
            f"a batch of {len(inputs)} inputs and {len(targets)} targets can't be divided into {accumulation} "
            "micro-batches: an input for each target, and at least one in each"
        )
    size = math.ceil(len(targets) / accumulation)
    return list(zip(inputs.split(size), targets.split(size), strict=True))


@dataclass(frozen=True, eq=False)
class _TracedStep:
    """A step, and the events of it that nobody else emits.

    Attributes:
        model: The model.
        micro_batches: Inputs and targets of each.
        batch: All of them as recipes see them, an input for each target, which a model need not have; None without.
        optimizer: The optimiser.
        recipe: The training algorithms.
        autocast: The format of products, or None.
        index: Number of the step.
    """

    model: nn.Module
    micro_batches: list[tuple[Tensor, Tensor]]
    batch: Examples | None
    optimizer: Optimizer
    recipe: Composed
    autocast: Autocast | None
    index: int

    def run(self, trace: WorkloadTrace) -> None:
        """Forward, loss and backward of each micro-batch, and the update.

        Args:
            trace: The trace of what is emitted; what later micro-batches keep takes the place of what the first kept.
        """
        step = self._as_recipes_see_it()
        if step is not None:
            self.recipe.before_step(step)
        for number, (inputs, targets) in enumerate(self.micro_batches):
            self._backpropagate(inputs, targets, step)
            if number == 0:
                first = len(trace.events)
            else:
                _bill_additions(self.model)
        last = len(trace.events)
        if self.autocast == "fp16":
            emit(_unscaling_event(self.optimizer))
        if step is not None:
            self.recipe.on_gradients(step)
        self.optimizer.step()
        if not isinstance(self.optimizer, LowPrecisionOptimizer):  # which bills itself, by its formats
            emit(update_event(self.optimizer))
        if step is not None:
            self.recipe.after_step(step)
        trace.events[first:last] = [replace(event, kept_bytes=0) for event in trace.events[first:last]]

    def _as_recipes_see_it(self) -> Step | None:
        if self.batch is None:
            return None
        return Step(index=self.index, epoch=0, model=self.model, optimizer=self.optimizer, batch=self.batch)

    def _backpropagate(self, inputs: Tensor, targets: Tensor, step: Step | None) -> None:
        logits = forward(self.model, inputs, self.autocast)
        emit(loss_event(logits, read=1, write=0, kept=kept_bytes(logits)))
        loss = F.cross_entropy(logits, targets)
        share = len(targets) / sum(len(each) for _, each in self.micro_batches)
        if step is not None:
            part = Examples(inputs=inputs, targets=targets)
            loss = self.recipe.on_loss(step, ForwardPass(part=part, logits=logits, share=share), loss)
        bill_gradient_sums(loss)
        emit(loss_event(logits, read=1, write=1))
        (loss if share == 1 else loss * share).backward()


def _bill_additions(model: nn.Module) -> None:
    """The additions of a micro-batch's gradients, one for each parameter, to what is there."""
    for parameter in model.parameters():
        gradient = parameter.grad
        if gradient is None:
            continue
        size = gradient.numel() * gradient.element_size()
        event = VectorEvent(
            kind="activation", elements=gradient.numel(), read_bytes=2 * size, write_bytes=size
        )
        emit(event)
        wrote(Written(event), gradient)


def _twin_optimizer(optimizer: Optimizer, model: nn.Module, twin: nn.Module) -> Optimizer:
    """A fresh optimiser of the same kind and hyperparameters over the copy's parameters."""
    twins = dict(zip(map(id, model.parameters()), twin.parameters(), strict=True))
    groups = [
        {**group, "params": [twins[id(p)] for p in group["params"] if id(p) in twins]}
        for group in optimizer.param_groups
    ]
    return type(optimizer)(groups)  # pyright: ignore[reportCallIssue]


def loss_event(logits: Tensor, *, read: int, write: int, kept: int = 0) -> VectorEvent:
    """Softmax and cross-entropy in one pass over the logits (forward), or the gradient from them (backward)."""
    return VectorEvent(
        kind="loss",
        elements=logits.numel(),
        read_bytes=read * memory_bytes(logits),
        write_bytes=write * logits.numel() * logits.element_size(),
        kept_bytes=kept,
    )


def _unscaling_event(optimizer: Optimizer) -> VectorEvent:
    """The pass that divides every gradient by the loss's scale and looks for inf and NaN."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    size = sum(g.numel() * g.element_size() for g in gradients)
    return VectorEvent(
        kind="optimizer_update",
        elements=sum(g.numel() for g in gradients),
        read_bytes=size,
        write_bytes=size,
        role="update",
    )


def update_event(optimizer: Optimizer) -> VectorEvent:
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
