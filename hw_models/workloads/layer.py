"""A layer that multiplies, by its sizes alone, and the events of running it in a given numerics.

With x the input (activations of a product: the left factor), w the weight (the right factor) and g = dL/dy:

| pass     | events, in this order                                                                                |
|----------|------------------------------------------------------------------------------------------------------|
| forward  | x and w quantised, the `output` GEMM, its sums converted to float32, the bias added                  |
| backward | the bias' gradient summed; g quantised (once for both GEMMs, if it becomes the same codes), w        |
|          | quantised unless its codes are kept, the `grad_input` GEMM and its conversion; x likewise, the       |
|          | `grad_weight` GEMM and its conversion                                                                |

Quantising is the pass that finds the scale (unless the rule needs none), the random bits (if it rounds
stochastically) and the conversion; the scale that one tensor has for several draws is found once. An operand with
blocks along the reduction, or with a transform, is quantised for each GEMM anew: each element once where a block of
channels is the same one in every window of a convolution, else the matrices that the array is fed, [M, K] and [N, K].
Sums that are float32 already, with no scale to multiply them (scales of blocks are part of
the GEMM), are not converted. These are the events of the emulated layer, but for what only a run can tell: clipped,
underflowed and overflowed elements, and the backend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hw_models.spec_event import spec_event
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import FixedScale, reduces
from lowbit_sim.quant.transforms import HadamardTransform
from lowbit_sim.trace import ConvGeometry, Event, GemmEvent, Role, VectorEvent

FLOAT_BYTES = 4
NATIVE = OpSpec(output=None, grad_input=None, grad_weight=None)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`count` equal GEMMs [M, K] x [K, N], or the convolution that they unfold.

    Attributes:
        name: The layer's name, for the events.
        M, N, K: Sizes of the forward GEMM; for a convolution of each group's.
        count: Groups of a convolution, matrices of a batch.
        conv: The convolution.
        weights: Whether the right factor is a parameter, which the update changes; else it is an activation.
        input_gradient: Whether the gradient of the input is needed: not by the first layer of a model.
        input_kept: Whether the real input stays in memory for another operator anyway.
        bias: Whether a bias, one number for each of the count * N columns, is added to the result.
    """

    name: str
    M: int
    N: int
    K: int
    count: int = 1
    conv: ConvGeometry | None = None
    weights: bool = True
    input_gradient: bool = True
    input_kept: bool = False
    bias: bool = False

    def __post_init__(self) -> None:
        for what in ("M", "N", "K", "count"):
            if getattr(self, what) < 1:
                raise ValueError(f"layer {self.name!r}: {what} must be at least 1, got {getattr(self, what)}")

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(M, N, K) of one GEMM of a role."""
        m, n, k = self.M, self.N, self.K
        if role == "output":
            return m, n, k
        if role == "grad_weight":
            return n, k, m
        if self.conv is None:
            return m, k, n
        c = self.conv
        taps = c.kernel_height * c.kernel_width
        return c.batch * c.in_height * c.in_width, c.in_channels // c.groups, taps * n

    @property
    def elements(self) -> dict[str, int]:
        """Elements of the tensors x, w, g and the bias b, in their own layouts."""
        x = self.count * self.M * self.K
        if self.conv is not None:
            c = self.conv
            x = c.batch * c.in_channels * c.in_height * c.in_width
        columns = self.count * self.N
        return {"x": x, "w": columns * self.K, "g": columns * self.M, "b": columns if self.bias else 0}

    def together(self, role: Role, side: int) -> int:
        """Neighbours along the reduction that come together in every window in which one of them occurs."""
        conv, (_, _, reduction) = self.conv, self.sizes(role)
        if conv is None or conv.kernel_height * conv.kernel_width == 1:
            return reduction
        match role, side:
            case "output", 0:
                return conv.in_channels // conv.groups
            case "grad_input", 0:
                return conv.out_channels // conv.groups
            case "grad_weight", 1:
                return 1
            case _:
                return reduction


#: The tensors on the left and right of each role's GEMM.
OPERANDS: dict[Role, tuple[str, str]] = {
    "output": ("x", "w"),
    "grad_input": ("g", "w"),
    "grad_weight": ("g", "x"),
}


def conv_layer(name: str, conv: ConvGeometry, *, input_gradient: bool = True) -> Layer:
    """The layer of a convolution."""
    return Layer(
        name=name,
        M=conv.batch * conv.out_height * conv.out_width,
        N=conv.out_channels // conv.groups,
        K=conv.kernel_height * conv.kernel_width * (conv.in_channels // conv.groups),
        count=conv.groups,
        conv=conv,
        input_gradient=input_gradient,
    )


def forward_events(layer: Layer, spec: OpSpec | None, *, training: bool = False) -> list[Event]:
    """The forward pass.

    Args:
        layer: The layer.
        spec: Its numerics; None for native float32.
        training: Whether a backward pass follows, for which operands are kept.
    """
    spec = NATIVE if spec is None else spec
    kept = _kept_bytes(layer, spec) if training else 0
    bias = [_addition(layer, layer.elements["g"])] if layer.bias else []
    if spec.output is None:
        return [_gemm(layer, "output", None, kept), *bias]
    events = [e for side in (0, 1) for e in _operand(layer, "output", side, spec.output)]
    return [*events, *_product(layer, "output", spec.output, kept), *bias]


def backward_events(layer: Layer, spec: OpSpec | None) -> list[Event]:
    """The backward pass: the gradients of the bias, of the weight and, if it is needed, of the input."""
    spec = NATIVE if spec is None else spec
    events: list[Event] = [_addition(layer, layer.elements["b"])] if layer.bias else []
    for_input = spec.grad_input if layer.input_gradient else None
    if for_input is not None:
        events += _operand(layer, "grad_input", 0, for_input)
    if spec.grad_weight is not None and not _same_gradient(for_input, spec.grad_weight):
        known = _same_quantizer(for_input, spec.grad_weight) and not spec.grad_weight.lhs.is_stateful
        events += _operand(layer, "grad_weight", 0, spec.grad_weight, known)
    if layer.input_gradient:
        events += _gradient(layer, "grad_input", spec, spec.grad_input)
    return events + _gradient(layer, "grad_weight", spec, spec.grad_weight)


def gemm_events(layer: Layer, role: Role, spec: GemmSpec | None) -> list[Event]:
    """One GEMM by itself, in the layer's M, N and K whatever its role, with both operands quantised for it."""
    if spec is None:
        return [replace(_gemm(layer, "output", None), role=role)]
    events = [e for side in (0, 1) for e in _operand(layer, "output", side, spec)]
    events += _product(layer, "output", spec)
    return [replace(e, role=role) if isinstance(e, GemmEvent) else e for e in events]


def training_events(layer: Layer, spec: OpSpec | None) -> list[Event]:
    """The forward pass, and then the backward pass, of a layer that trains."""
    return [*forward_events(layer, spec, training=True), *backward_events(layer, spec)]


def _gradient(layer: Layer, role: Role, op: OpSpec, spec: GemmSpec | None) -> list[Event]:
    """One backward GEMM, whose left operand is there already."""
    if spec is None:
        return [_gemm(layer, role, None)]
    again = [] if _reads_codes(op, role) else _operand(layer, role, 1, spec)
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


def _after_layout(spec: GemmSpec, quantizer: Quantizer) -> bool:
    return bool(quantizer.block) or spec.transform is not None


def _operand(layer: Layer, role: Role, side: int, spec: GemmSpec, scale_known: bool = False) -> list[Event]:
    """A tensor quantised in its own layout; nothing yet if it is laid out before."""
    quantizer = spec.rhs if side else spec.lhs
    if _after_layout(spec, quantizer):
        return []
    elements = layer.elements[OPERANDS[role][side]]
    once = _quantize(layer, elements, 1, quantizer)
    again = once if quantizer.is_stateful else [e for e in once if e.kind != "scale_reduction"]
    return [*(again if scale_known else once), *again * (0 if side else spec.samples - 1)]


def _product(layer: Layer, role: Role, spec: GemmSpec, kept: int = 0) -> list[Event]:
    """The operands that are quantised as matrices, the GEMM and the conversion of its sums, for every sample."""
    m, n, k = layer.sizes(role)
    padded = (
        -(-k // spec.transform.block) * spec.transform.block
        if isinstance(spec.transform, HadamardTransform)
        else k
    )
    rows = {0: m, 1: n}
    sides = [s for s in (0, 1) if _after_layout(spec, (spec.lhs, spec.rhs)[s])]
    laid: list[Event] = []
    if spec.transform is not None:
        laid += [_transform(layer, layer.count * rows[s] * padded) for s in sides]
    for s in sides:
        laid += _quantize_laid_out(layer, role, s, spec, rows[s], padded) * layer.count
    results = layer.count * m * n
    drawn = results * _drawn_bits(spec, k)
    if drawn:
        laid.append(replace(_vector(layer, "random_bits", 0, 0, 0), random_bits=drawn))
    gemm = _gemm(layer, role, spec, kept, additions=results * _additions(spec, padded))
    convert = _conversion(layer, spec, results, gemm.outer_bits)
    return [
        e
        for s in range(spec.samples)
        for e in (*laid, gemm if not s else replace(gemm, kept_bytes=0), *convert)
    ]


def _quantize_laid_out(
    layer: Layer, role: Role, side: int, spec: GemmSpec, rows: int, reduction: int
) -> list[VectorEvent]:
    """The passes that make codes of one matrix with so many rows, or of the part of a tensor behind it."""
    quantizer = spec.rhs if side else spec.lhs
    matrix = rows * reduction
    if spec.transform is not None:
        return _quantize(layer, matrix, rows, quantizer)
    once = min(matrix, layer.elements[OPERANDS[role][side]] // layer.count)
    together = layer.together(role, side)
    if (together == reduction or together % quantizer.block == 0) and not quantizer.rounding.is_stochastic:
        return _quantize(layer, once, once // min(together, reduction), quantizer)
    return [replace(e, copies=matrix - once) for e in _quantize(layer, matrix, rows, quantizer)]


def _conversion(layer: Layer, spec: GemmSpec, results: int, width: int) -> list[Event]:
    """The pass that converts or scales sums of so many bits; none where they are the result as they are."""
    as_they_are = isinstance(spec.mac, FloatMacUnit) or bool(spec.block)
    as_they_are = as_they_are and width == 8 * FLOAT_BYTES
    if as_they_are and all(q.block or q.scale == FixedScale(1.0) for q in (spec.lhs, spec.rhs)):
        return []
    return [_vector(layer, "dequantize", results, math.ceil(results * width / 8), results * FLOAT_BYTES)]


def _addition(layer: Layer, written: int) -> VectorEvent:
    """The addition of a bias, or the sum of its gradient: one pass over the result or over g."""
    results = layer.elements["g"]
    return _vector(layer, "activation", results, results * FLOAT_BYTES, written * FLOAT_BYTES)


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


def _quantize(layer: Layer, elements: int, rows: int, quantizer: Quantizer) -> list[VectorEvent]:
    """The passes that make codes of a tensor, or of a matrix with so many rows."""
    read = elements * FLOAT_BYTES
    events: list[VectorEvent] = []
    if reduces(quantizer.scale):
        events.append(_vector(layer, "scale_reduction", elements, read, 0))
    if quantizer.rounding.is_stochastic:
        drawn = elements * quantizer.rounding.random_bits
        events.append(replace(_vector(layer, "random_bits", elements, 0, 0), random_bits=drawn))
    events.append(_vector(layer, "quantize", elements, read, _stored_bytes(elements, rows, quantizer)))
    return events


def _stored_bytes(elements: int, rows: int, quantizer: Quantizer) -> int:
    """Codes, and the scales of blocks."""
    bits = elements * quantizer.element_format.bits
    if quantizer.block:
        scale_bits = quantizer.format.scale.bits if isinstance(quantizer.format, BlockFormat) else 32
        bits += rows * -(-(elements // rows) // quantizer.block) * scale_bits
    return math.ceil(bits / 8)


def _kept_bytes(layer: Layer, spec: OpSpec) -> int:
    """Bytes that stay until the backward pass: see `lowbit_sim.trace`."""
    size = _kept_operand(layer, spec, "grad_weight", activation=True)
    return size + (_kept_operand(layer, spec, "grad_input", not layer.weights) if layer.input_gradient else 0)


def _kept_operand(layer: Layer, spec: OpSpec, role: Role, activation: bool) -> int:
    elements = layer.elements[OPERANDS[role][1]]
    if _reads_codes(spec, role):
        gemm: GemmSpec = getattr(spec, role)
        return _stored_bytes(elements, 1, gemm.rhs)
    there = role == "grad_weight" and layer.input_kept
    return elements * FLOAT_BYTES if activation and not there else 0


def _transform(layer: Layer, elements: int) -> VectorEvent:
    return _vector(layer, "transform", elements, elements * FLOAT_BYTES, elements * FLOAT_BYTES)


def _vector(layer: Layer, kind: str, elements: int, read: int, write: int) -> VectorEvent:
    return VectorEvent(kind=kind, elements=elements, read_bytes=read, write_bytes=write, layer=layer.name)
