"""From a list of layers to the trace of a forward pass or of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hw_models.workloads.layer import FLOAT_BYTES, Layer, backward_events, forward_events
from hw_models.workloads.stored import between_layers
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.trace import VectorEvent, WorkloadTrace


def step_trace(
    layers: Sequence[Layer],
    spec: OpSpec | None,
    *,
    training: bool,
    activations: ElementwiseSpec | None = None,
) -> WorkloadTrace:
    """The layers one after another, and in training back again and the update of their weights.

    The update is that of stochastic gradient descent with momentum, in float32.

    Args:
        layers: In the order of the forward pass.
        spec: The numerics of every layer; None for native float32.
        training: Whether a training step follows the forward pass.
        activations: The formats of the tensors between layers; None for float32. The input of a layer without an
            input gradient is the model's own, in float32.
    """
    layers = [replace(e, stored=between_layers(activations, image=not e.input_gradient)) for e in layers]
    trace = WorkloadTrace()
    for layer in layers:
        trace.events += forward_events(layer, spec, training=training)
    if training:
        for layer in reversed(layers):
            trace.events += backward_events(layer, spec)
        trace.events.append(update_event(sum(map(_parameters, layers))))
    return trace


def _parameters(layer: Layer) -> int:
    return (layer.elements["w"] if layer.weights else 0) + layer.elements["b"]


def update_event(parameters: int) -> VectorEvent:
    """SGD with momentum: reads weight, gradient and momentum, writes weight and momentum."""
    size = parameters * FLOAT_BYTES
    return VectorEvent(
        kind="optimizer_update",
        elements=parameters,
        read_bytes=3 * size,
        write_bytes=2 * size,
        role="update",
        parameter_bytes=size,
        gradient_bytes=size,
        state_bytes=size,
    )
