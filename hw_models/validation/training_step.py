"""A training step of a list of layers on a machine that keeps activations in 16 bits: all that it moves and does.

For each forward GEMM: quantising its operands (activations and gradients are stored in 16 bits, weights in 32), the
GEMM, the two of the backward pass (none to the network's input), batch normalisation and rectifier behind it in both
directions, and the weight's update by SGD with momentum in 32 bits. Sums leave the array in the accumulator's width.

Bytes of an element that element-wise work reads + writes, each operator on its own, or fused as a training compiler
does it (statistics are taken from the array's results on their way out, and what the next GEMM reads is written as
codes):

| work                          | on its own | fused |
|-------------------------------|------------|-------|
| batch norm, forward           | 4 + 2      | 2 + 1 |
| rectifier, forward            | 2 + 2      | 0     |
| quantise the input            | 2 + 1      | 0     |
| rectifier, backward           | 4 + 2      | 0     |
| batch norm, backward          | 8 + 2      | 8 + 1 |
| quantise the output's gradient| 2 + 1      | 0     |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hw_models.profile import HardwareProfile
from hw_models.spec_event import spec_event
from lowbit_sim.trace import ConvGeometry, Event, GemmEvent, Role, VectorEvent, WorkloadTrace

WEIGHT_BYTES = 4
CODE_BYTES = 1


def training_step(
    layers: Sequence[GemmEvent], profile: HardwareProfile, *, fused: bool = False
) -> WorkloadTrace:
    """The events of a step.

    Args:
        layers: The forward GEMMs of the batch, the network's first one first.
        profile: The machine, whose numerics the GEMMs have.
        fused: Whether element-wise work is fused; see the module.
    """
    events: list[Event] = []
    for i, layer in enumerate(layers):
        events += _forward(layer, profile, fused)
        events += _backward(layer, profile, fused, first=i == 0)
    return WorkloadTrace(events)


def _gemm(layer: GemmEvent, role: Role, sizes: tuple[int, int, int], profile: HardwareProfile) -> GemmEvent:
    event = spec_event(profile.gemm_spec(role), role, *sizes)
    return replace(event, layer=layer.layer, conv=layer.conv, count=layer.count)


def _images(layer: GemmEvent, *, inputs: bool) -> int:
    """Elements of the input or output tensor of all groups."""
    conv = layer.conv
    if conv is None:
        return layer.M * (layer.K if inputs else layer.N)
    if inputs:
        return conv.batch * conv.in_channels * conv.in_height * conv.in_width
    return conv.batch * conv.out_channels * conv.out_height * conv.out_width


def _weights(layer: GemmEvent) -> int:
    return layer.count * layer.K * layer.N


def _vector(kind: str, elements: int, read: int, write: int, role: Role, layer: str) -> VectorEvent:
    """Work on elements, of each of which so many bytes are read and written."""
    return VectorEvent(
        kind=kind,
        elements=elements,
        read_bytes=elements * read,
        write_bytes=elements * write,
        role=role,
        layer=layer,
    )


#: Bytes read and written for an element, on its own and fused; see the module.
_BYTES = {
    "batch_norm": ((4, 2), (2, 1)),
    "rectify": ((2, 2), (0, 0)),
    "quantize": ((2, 1), (0, 0)),
    "rectify_backward": ((4, 2), (0, 0)),
    "batch_norm_backward": ((8, 2), (8, 1)),
}


def _forward(layer: GemmEvent, profile: HardwareProfile, fused: bool) -> Iterator[Event]:
    inputs, outputs, name = _images(layer, inputs=True), _images(layer, inputs=False), layer.layer
    yield _vector("quantize", inputs, *_BYTES["quantize"][fused], "overhead", name)
    yield _vector("quantize", _weights(layer), WEIGHT_BYTES, CODE_BYTES, "overhead", name)
    yield _gemm(layer, "output", (layer.M, layer.N, layer.K), profile)
    yield _vector("batch_norm", outputs, *_BYTES["batch_norm"][fused], "overhead", name)
    yield _vector("activation", outputs, *_BYTES["rectify"][fused], "overhead", name)


def _backward(layer: GemmEvent, profile: HardwareProfile, fused: bool, *, first: bool) -> Iterator[Event]:
    outputs, name = _images(layer, inputs=False), layer.layer
    yield _vector("activation", outputs, *_BYTES["rectify_backward"][fused], "overhead", name)
    yield _vector("batch_norm", outputs, *_BYTES["batch_norm_backward"][fused], "overhead", name)
    yield _vector("quantize", outputs, *_BYTES["quantize"][fused], "overhead", name)
    if not first:
        yield _gemm(layer, "grad_input", _grad_input(layer), profile)
    yield _gemm(layer, "grad_weight", (layer.N, layer.K, layer.M), profile)
    yield _vector("optimizer_update", _weights(layer), 3 * WEIGHT_BYTES, 2 * WEIGHT_BYTES, "update", name)


def _grad_input(layer: GemmEvent) -> tuple[int, int, int]:
    conv: ConvGeometry | None = layer.conv
    if conv is None:
        return layer.M, layer.K, layer.N
    taps = conv.kernel_height * conv.kernel_width
    return conv.batch * conv.in_height * conv.in_width, conv.in_channels // conv.groups, layer.N * taps
