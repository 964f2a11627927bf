"""The workload of a model's inference: its forward pass in evaluation mode, as events that a cost model prices.

Nothing is kept, as no backward pass follows. A batch norm has fixed statistics and is a pass over its input, read
once; it is not folded into the weights before it, as a deployed model may have it: fold it in the model (for one,
with `torch.nn.utils.fusion.fuse_conv_bn_eval`) and the pass is gone. A dropout does nothing.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lowbit_sim.ops.billing import kept_once
from lowbit_sim.trace import Event, VectorEvent, WorkloadTrace, record
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.native_events import native_events


def trace_inference(model: nn.Module, inputs: Tensor) -> WorkloadTrace:
    """Run a copy of a model forward in evaluation mode and record it; the model stays as it is.

    With inputs on torch's "meta" device nothing is computed and no memory is taken, as in `trace_training_step`.

    Args:
        model: The model, native or converted.
        inputs: A batch [B, ...].

    Raises:
        ValueError: A native module or product whose cost is not known, or, on the meta device, work that depends on
            the data.
        NotANumberError: A NaN reaches a quantiser.
    """
    twin = copy.deepcopy(model).eval()
    if inputs.is_meta:
        twin.to("meta")
    with deterministic(0), torch.no_grad(), record() as trace, kept_once(), native_events(twin):
        twin(inputs)
    return WorkloadTrace([_kept_by_nobody(event) for event in trace.events])


def _kept_by_nobody(event: Event) -> Event:
    """The event without what its operator would keep if a backward pass followed."""
    if isinstance(event, VectorEvent):
        return replace(event, kept_bytes=0, keeps="")
    return replace(event, kept_bytes=0)
