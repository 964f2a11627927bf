"""The passes that make codes of a layer's operands, and the bytes of the codes.

Quantising is the pass that finds the scale (unless the rule needs none), the random bits (if it rounds
stochastically) and the conversion. A tensor is read in the format that it is stored in (`stored`).
"""

from __future__ import annotations

import math
from dataclasses import replace

from hw_models.workloads.layer_sizes import OPERANDS, Layer
from hw_models.workloads.stored import FLOAT_BYTES, stored_bytes
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import reduces
from lowbit_sim.quant.transforms import HadamardTransform
from lowbit_sim.trace import Event, Role, VectorEvent


def after_layout(spec: GemmSpec, quantizer: Quantizer) -> bool:
    """Whether an operand is quantised as the matrix that the array is fed, and not in its own layout."""
    return bool(quantizer.block) or spec.transform is not None


def operand_passes(
    layer: Layer, role: Role, side: int, spec: GemmSpec, scale_known: bool = False
) -> list[Event]:
    """A tensor quantised in its own layout; nothing yet if it is laid out before.

    Args:
        layer: The layer.
        role: The GEMM.
        side: 0 for its left operand, 1 for its right one.
        spec: The GEMM's numerics.
        scale_known: Whether the tensor's scale was found before.
    """
    quantizer = spec.rhs if side else spec.lhs
    if after_layout(spec, quantizer):
        return []
    tensor = OPERANDS[role][side]
    passes = quantize_passes(layer, layer.elements[tensor], 1, quantizer, tensor_format(layer, tensor))
    once = _marked(passes, layer, tensor)
    again = once if quantizer.is_stateful else [e for e in once if e.kind != "scale_reduction"]
    return [*(again if scale_known else once), *again * (0 if side else spec.samples - 1)]


def laid_out_passes(layer: Layer, role: Role, spec: GemmSpec) -> list[Event]:
    """The transform of the operands, and the quantising of those that are quantised as matrices."""
    m, n, _ = layer.sizes(role)
    reduction, rows = padded_reduction(layer, role, spec), (m, n)
    sides = [s for s in (0, 1) if after_layout(spec, (spec.lhs, spec.rhs)[s])]
    passes: list[Event] = []
    if spec.transform is not None:
        for s in sides:
            transform = _transform(layer, layer.count * rows[s] * reduction)
            passes += _marked([transform], layer, OPERANDS[role][s])
    for s in sides:
        one = _matrix_passes(layer, role, s, spec, rows[s], reduction)
        passes += _marked(one, layer, OPERANDS[role][s]) * layer.count
    return passes


def padded_reduction(layer: Layer, role: Role, spec: GemmSpec) -> int:
    """Terms of a sum: those of the GEMM, filled up to whole blocks of a Hadamard transform."""
    _, _, reduction = layer.sizes(role)
    if isinstance(spec.transform, HadamardTransform):
        return -(-reduction // spec.transform.block) * spec.transform.block
    return reduction


def _matrix_passes(
    layer: Layer, role: Role, side: int, spec: GemmSpec, rows: int, reduction: int
) -> list[VectorEvent]:
    """The passes that make codes of one matrix with so many rows, or of the part of a tensor behind it."""
    quantizer, tensor = spec.rhs if side else spec.lhs, OPERANDS[role][side]
    matrix = rows * reduction
    if spec.transform is not None:
        return quantize_passes(layer, matrix, rows, quantizer, None)
    stored = tensor_format(layer, tensor)
    once = min(matrix, layer.elements[tensor] // layer.count)
    together = layer.together(role, side)
    if (together == reduction or together % quantizer.block == 0) and not quantizer.rounding.is_stochastic:
        return quantize_passes(layer, once, once // min(together, reduction), quantizer, stored)
    passes = quantize_passes(layer, matrix, rows, quantizer, stored)
    return [replace(e, copies=matrix - once) for e in passes]


def _marked(passes: list[VectorEvent], layer: Layer, tensor: str) -> list[VectorEvent]:
    """The passes over a layer's tensor, which say so if it is the weight."""
    if tensor != "w" or not layer.weights:
        return passes
    return [replace(e, parameter="weight") for e in passes]


def tensor_format(layer: Layer, tensor: str) -> Quantizer | None:
    """The format that a layer's tensor is stored in; an activation on the right as the one on the left."""
    if tensor == "w":
        return None if layer.weights else layer.stored.x
    return layer.stored.x if tensor == "x" else layer.stored.g


def quantize_passes(
    layer: Layer, elements: int, rows: int, quantizer: Quantizer, stored: Quantizer | None
) -> list[VectorEvent]:
    """The passes that make codes of a tensor, or of a matrix with so many rows, that is stored in a format."""
    read = stored_bytes(elements, stored)
    events: list[VectorEvent] = []
    if reduces(quantizer.scale):
        events.append(vector_event(layer, "scale_reduction", elements, read, 0))
    if quantizer.rounding.is_stochastic:
        drawn = elements * quantizer.rounding.random_bits
        events.append(replace(vector_event(layer, "random_bits", elements, 0, 0), random_bits=drawn))
    events.append(vector_event(layer, "quantize", elements, read, code_bytes(elements, rows, quantizer)))
    return events


def code_bytes(elements: int, rows: int, quantizer: Quantizer) -> int:
    """Codes, and the scales of blocks, of which each row has whole ones."""
    bits = elements * quantizer.element_format.bits
    if quantizer.block:
        scale_bits = quantizer.format.scale.bits if isinstance(quantizer.format, BlockFormat) else 32
        bits += rows * -(-(elements // rows) // quantizer.block) * scale_bits
    return math.ceil(bits / 8)


def _transform(layer: Layer, elements: int) -> VectorEvent:
    return vector_event(layer, "transform", elements, elements * FLOAT_BYTES, elements * FLOAT_BYTES)


def vector_event(layer: Layer, kind: str, elements: int, read: int, write: int) -> VectorEvent:
    """Work of a layer on elements, with the bytes that it reads and writes."""
    return VectorEvent(kind=kind, elements=elements, read_bytes=read, write_bytes=write, layer=layer.name)
