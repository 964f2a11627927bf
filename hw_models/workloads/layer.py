"""The events of running a layer that multiplies, in a given numerics.

With x the input (activations of a product: the left factor), w the weight (the right factor) and g = dL/dy:

| pass     | events, in this order                                                                                |
|----------|------------------------------------------------------------------------------------------------------|
| forward  | x and w quantised, the `output` GEMM, its sums converted to float32, the bias added                  |
| backward | the bias' gradient summed; g quantised (once for both GEMMs, if it becomes the same codes), w        |
|          | quantised unless its codes are kept, the `grad_input` GEMM and its conversion; x likewise, the       |
|          | `grad_weight` GEMM and its conversion                                                                |

The scale that one tensor has for several draws is found once. An operand with blocks along the reduction, or with a
transform, is quantised for each GEMM anew: each element once where a block of channels is the same one in every
window of a convolution, else the matrices that the array is fed, [M, K] and [N, K]. Sums that are float32 already,
with no scale to multiply them (scales of blocks are part of the GEMM), are not converted. What is written last, y or
the gradient of x, goes out in the format that it is stored in (`stored`). These are the events of the emulated layer,
but for what only a run can tell: clipped, underflowed and overflowed elements, and the backend.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hw_models.spec_event import spec_event
from hw_models.workloads.layer_sizes import OPERANDS, RESULTS
from hw_models.workloads.layer_sizes import Layer as Layer
from hw_models.workloads.layer_sizes import conv_layer as conv_layer
from hw_models.workloads.quantize_passes import (
    code_bytes,
    laid_out_passes,
    operand_passes,
    padded_reduction,
    quantize_passes,
    tensor_format,
    vector_event,
)
from hw_models.workloads.stored import FLOAT_BYTES as FLOAT_BYTES
from hw_models.workloads.stored import narrowed, stored_bytes
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.quant.scaling import FixedScale
from lowbit_sim.trace import Event, GemmEvent, Role, VectorEvent

NATIVE = OpSpec(output=None, grad_input=None, grad_weight=None)


def forward_events(layer: Layer, spec: OpSpec | None, *, training: bool = False) -> list[Event]:
    """The forward pass.

    Args:
        layer: The layer.
        spec: Its numerics; None for native float32.
        training: Whether a backward pass follows, for which operands are kept.
    """
    spec = NATIVE if spec is None else spec
    kept = _kept_bytes(layer, spec) if training else 0
    bias = [_bias_addition(layer)] if layer.bias else []
    if spec.output is None:
        return [*_native(layer, "output", kept), *bias]
    events = [e for side in (0, 1) for e in operand_passes(layer, "output", side, spec.output)]
    return [*events, *_product(layer, "output", spec.output, kept), *bias]


def backward_events(layer: Layer, spec: OpSpec | None) -> list[Event]:
    """The backward pass: the gradients of the bias, of the weight and, if it is needed, of the input."""
    spec = NATIVE if spec is None else spec
    events: list[Event] = [_bias_gradient(layer)] if layer.bias else []
    for_input = spec.grad_input if layer.input_gradient else None
    if for_input is not None:
        events += operand_passes(layer, "grad_input", 0, for_input)
    if spec.grad_weight is not None and not _same_gradient(for_input, spec.grad_weight):
        known = _same_quantizer(for_input, spec.grad_weight) and not spec.grad_weight.lhs.is_stateful
        events += operand_passes(layer, "grad_weight", 0, spec.grad_weight, known)
    if layer.input_gradient:
        events += _gradient(layer, "grad_input", spec, spec.grad_input)
    return events + _gradient(layer, "grad_weight", spec, spec.grad_weight)


def gemm_events(layer: Layer, role: Role, spec: GemmSpec | None) -> list[Event]:
    """One GEMM by itself, in the layer's M, N and K whatever its role, with both operands quantised for it."""
    if spec is None:
        return [replace(_gemm(layer, "output", None), role=role)]
    events = [e for side in (0, 1) for e in operand_passes(layer, "output", side, spec)]
    events += _product(layer, "output", spec)
    return [replace(e, role=role) if isinstance(e, GemmEvent) else e for e in events]


def training_events(layer: Layer, spec: OpSpec | None) -> list[Event]:
    """The forward pass, and then the backward pass, of a layer that trains."""
    return [*forward_events(layer, spec, training=True), *backward_events(layer, spec)]


def _gradient(layer: Layer, role: Role, op: OpSpec, spec: GemmSpec | None) -> list[Event]:
    """One backward GEMM, whose left operand is there already."""
    if spec is None:
        return _native(layer, role)
    again = [] if _reads_codes(op, role) else operand_passes(layer, role, 1, spec)
    return again + _product(layer, role, spec)


def _reads_codes(op: OpSpec, role: Role) -> bool:
    """Whether a backward GEMM's right operand is the forward GEMM's: the same codes, drawn without random bits."""
    spec: GemmSpec | None = getattr(op, role)
    if op.output is None or spec is None or op.output.transform is not None or spec.transform is not None:
        return False
    forward = op.output.rhs if role == "grad_input" else op.output.lhs
    alone = role == "grad_input" or op.output.samples == 1
    return forward == spec.rhs and alone and not forward.block and not forward.rounding.is_stochastic


def _same_gradient(for_input: GemmSpec | None, for_weight: GemmSpec) -> bool:
    """Whether g becomes the same codes for both backward GEMMs."""
    return _same_quantizer(for_input, for_weight) and not for_weight.lhs.rounding.is_stochastic


def _same_quantizer(for_input: GemmSpec | None, for_weight: GemmSpec) -> bool:
    """Whether g is quantised in its own layout and alike for both, but for the random bits."""
    if for_input is None or for_input.transform is not None or for_weight.transform is not None:
        return False
    return for_weight.lhs == for_input.lhs and not for_weight.lhs.block


def _product(layer: Layer, role: Role, spec: GemmSpec, kept: int = 0) -> list[Event]:
    """The operands that are quantised as matrices, the GEMM and the conversion of its sums, for every sample."""
    m, n, k = layer.sizes(role)
    laid = laid_out_passes(layer, role, spec)
    results = layer.count * m * n
    drawn = results * _drawn_bits(spec, k)
    if drawn:
        laid.append(replace(vector_event(layer, "random_bits", 0, 0, 0), random_bits=drawn))
    additions = results * _additions(spec, padded_reduction(layer, role, spec))
    gemm = _gemm(layer, role, spec, kept, additions=additions)
    convert = _conversion(layer, spec, results, gemm.outer_bits)
    events = [
        e
        for s in range(spec.samples)
        for e in (*laid, gemm if not s else replace(gemm, kept_bytes=0), *convert)
    ]
    return _rounded(layer, role, events, written=bool(convert) and spec.samples == 1)


def _conversion(layer: Layer, spec: GemmSpec, results: int, width: int) -> list[VectorEvent]:
    """The pass that converts or scales sums of so many bits; none where they are the result as they are."""
    as_they_are = isinstance(spec.mac, FloatMacUnit) or bool(spec.block)
    as_they_are = as_they_are and width == 8 * FLOAT_BYTES
    if as_they_are and all(q.block or q.scale == FixedScale(1.0) for q in (spec.lhs, spec.rhs)):
        return []
    return [vector_event(layer, "dequantize", results, math.ceil(results * width / 8), results * FLOAT_BYTES)]


def _rounded(layer: Layer, role: Role, events: list[Event], *, written: bool) -> list[Event]:
    """A GEMM's events with its result in the format that it is stored in.

    Sums that a bias is added to are rounded after that, and the gradient of a parameter is not.

    Args:
        layer: The layer.
        role: The GEMM's role.
        events: Its events.
        written: Whether the last one is a pass that writes the result, which it then rounds on its way out.
    """
    real = layer.bias if role == "output" else role == "grad_weight" and layer.weights
    quantizer = layer.stored.y if role == "output" else layer.stored.dx
    if real or quantizer is None:
        return events
    elements = layer.elements[RESULTS[role]]
    *before, last = events
    if written and isinstance(last, VectorEvent):
        return [*before, narrowed(last, elements, quantizer)]
    return [*events, *quantize_passes(layer, elements, 1, quantizer, None)]


def _bias_addition(layer: Layer) -> VectorEvent:
    """The addition of a bias: one pass over the result."""
    results = layer.elements["g"]
    size = results * FLOAT_BYTES
    event = replace(vector_event(layer, "activation", results, size, size), parameter="bias")
    return event if layer.stored.y is None else narrowed(event, results, layer.stored.y)


def _bias_gradient(layer: Layer) -> VectorEvent:
    """The sum of g that is the gradient of a bias."""
    results = layer.elements["g"]
    read = stored_bytes(results, layer.stored.g)
    return vector_event(layer, "activation", results, read, layer.elements["b"] * FLOAT_BYTES)


def _additions(spec: GemmSpec, reduction: int) -> int:
    """Accumulator additions of one element of the result; with blocks those inside them and those across them."""
    if not spec.block:
        return spec.mac.additions(reduction)
    full, rest = divmod(reduction, spec.block)
    inside = full * spec.mac.additions(spec.block) + (spec.mac.additions(rest) if rest else 0)
    return inside + spec.across.additions(full + (rest > 0))


def _drawn_bits(spec: GemmSpec, reduction: int) -> int:
    """Random bits of the accumulators for one result: a lot for each addition that rounds stochastically."""
    parts: list[tuple[MacUnit | FloatMacUnit, int, int]] = [(spec.mac, reduction, 1)]
    if spec.block:
        full, rest = divmod(reduction, spec.block)
        parts = [(spec.mac, spec.block, full), (spec.mac, rest, 1), (spec.across, full + (rest > 0), 1)]
    return sum(
        many * mac.additions(terms) * mac.rounding.random_bits
        for mac, terms, many in parts
        if terms and isinstance(mac, FloatMacUnit) and mac.rounding.is_stochastic
    )


def _native(layer: Layer, role: Role, kept: int = 0) -> list[Event]:
    """A GEMM of float32, with its result in the format that it is stored in."""
    return _rounded(layer, role, [_gemm(layer, role, None, kept)], written=False)


def _gemm(layer: Layer, role: Role, spec: GemmSpec | None, kept: int = 0, additions: int = 0) -> GemmEvent:
    return replace(
        spec_event(spec, role, *layer.sizes(role)),
        layer=layer.name,
        count=layer.count,
        conv=layer.conv,
        kept_bytes=kept,
        additions=additions,
        overflows=0 if spec is None else None,
    )


def _kept_bytes(layer: Layer, spec: OpSpec) -> int:
    """Bytes that stay until the backward pass: see `lowbit_sim.trace`."""
    size = _kept_operand(layer, spec, "grad_weight", activation=True)
    return size + (_kept_operand(layer, spec, "grad_input", not layer.weights) if layer.input_gradient else 0)


def _kept_operand(layer: Layer, spec: OpSpec, role: Role, activation: bool) -> int:
    elements = layer.elements[OPERANDS[role][1]]
    if _reads_codes(spec, role):
        gemm: GemmSpec = getattr(spec, role)
        return code_bytes(elements, 1, gemm.rhs)
    there = role == "grad_weight" and layer.input_kept
    return stored_bytes(elements, tensor_format(layer, OPERANDS[role][1])) if activation and not there else 0
