"""What quantising a tensor or a matrix puts on record, and the bytes of the codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import reduces
from lowbit_sim.trace import Parameter, VectorEvent, emit

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What a machine passes over to quantise a matrix, in which elements of a tensor may occur several times.

    Attributes:
        elements: Elements that become codes.
        copies: How many of them are copies of others.
        bits: Width in which an element is read.
    """

    elements: int
    copies: int = 0
    bits: int = 8 * FLOAT_BYTES


def emit_quantize(
    passed: Passed,
    quantized: QTensor,
    quantizer: Quantizer,
    layer: str,
    counts: OperandCounts | None = None,
    scale_known: bool = False,
    parameter: Parameter = "",
) -> None:
    """Put a quantisation on record: the reduction for its scale, its random bits and the conversion.

    Args:
        passed: How many elements a machine passes over.
        quantized: What they became, with their copies.
        quantizer: What quantised them.
        layer: Module path.
        counts: What was clipped and underflowed, copies included.
        scale_known: Whether no pass for the scale goes on record.
        parameter: "weight" if the tensor is a layer's weight.
    """
    elements = passed.elements

    def vector(
        kind: str, read: int, write: int, random_bits: int = 0, counts: OperandCounts | None = None
    ) -> None:
        emit(
            VectorEvent(
                kind=kind,
                elements=elements,
                copies=passed.copies,
                read_bytes=read,
                write_bytes=write,
                layer=layer,
                random_bits=random_bits,
                clipped=None if counts is None else counts.clipped,
                underflowed=None if counts is None else counts.underflowed,
                parameter=parameter,
            )
        )

    read = math.ceil(elements * passed.bits / 8)
    if reduces(quantizer.scale) and not scale_known:
        vector("scale_reduction", read, 0)
    if quantizer.rounding.is_stochastic:
        vector("random_bits", 0, 0, elements * quantizer.rounding.random_bits)
    vector("quantize", read, code_bytes(quantized, elements), counts=counts)


def code_bytes(q: QTensor, elements: int | None = None) -> int:
    """Bytes that codes are stored in, with the scales of blocks; one for a tensor or an axis is not counted.

    Args:
        q: The codes.
        elements: How many of them are stored, in whole blocks; all by default.
    """
    codes = q.codes.numel()
    elements = codes if elements is None else elements
    stored = elements * q.element_format.bits
    if q.block and elements:
        scale_bits = q.format.scale.bits if isinstance(q.format, BlockFormat) else 32
        stored += q.scale.numel() * elements // codes * scale_bits
    return math.ceil(stored / 8)
