"""What operators put on record: their GEMMs, transforms and conversions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.ops.contraction import Contraction, Side
from lowbit_sim.ops.operand import FLOAT_BYTES, CallSite
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import FixedScale
from lowbit_sim.trace import GemmEvent, Operand, Role, VectorEvent, emit, recording


def emit_transform(real: dict[Side, list[Tensor]], role: Role, at: CallSite) -> None:
    """Put the transform of both operands of a role's GEMM on record."""
    if not recording():
        return
    for side, matrices in real.items():
        elements = sum(m.numel() for m in matrices)
        size = elements * FLOAT_BYTES
        emit(
            VectorEvent(
                kind="transform",
                elements=elements,
                read_bytes=size,
                write_bytes=size,
                layer=at.layer,
                parameter=at.parameter(role, side),
            )
        )


def emit_gemm(
    layout: Contraction,
    role: Role,
    spec: GemmSpec,
    results: Sequence[GemmResult],
    at: CallSite,
    kept_size: int = 0,
) -> VectorEvent | None:
    """Put one role's GEMMs on record, the random bits of their accumulators, and the conversion of their sums.

    Returns:
        The conversion to float32, where there is one.
    """
    drawn = layout.count * math.prod(layout.sizes(role)[:2]) * drawn_bits(spec, layout.sizes(role)[2])
    if drawn:
        emit(_random_bits(drawn, at.layer))
    emit(
        replace(
            gemm_event(layout, role, spec, at.layer),
            additions=sum(r.additions for r in results),
            overflows=_total([r.overflows for r in results]),
            backend="+".join(sorted({r.backend for r in results})),
            kept_bytes=kept_size,
        )
    )
    if not converts_sums(spec):
        return None
    elements = sum(r.values.numel() for r in results)
    conversion = VectorEvent(
        kind="dequantize",
        elements=elements,
        read_bytes=math.ceil(elements * sums_bits(spec) / 8),
        write_bytes=elements * FLOAT_BYTES,
        layer=at.layer,
    )
    emit(conversion)
    return conversion


def _random_bits(drawn: int, layer: str) -> VectorEvent:
    """Bits that go straight to the accumulators."""
    return VectorEvent(
        kind="random_bits", elements=0, read_bytes=0, write_bytes=0, random_bits=drawn, layer=layer
    )


def converts_sums(spec: GemmSpec) -> bool:
    """Whether a pass over a GEMM's sums makes its result of them.

    Integer sums become float32, and so do float sums of another width; a scale that is not 1 by construction
    multiplies them. Float32 sums without a scale are the result as they are; scales of blocks are part of the GEMM.
    """
    if not spec.block and not isinstance(spec.mac, FloatMacUnit):
        return True
    scaled = any(not q.block and q.scale != FixedScale(1.0) for q in (spec.lhs, spec.rhs))
    return scaled or sums_bits(spec) != FLOAT_BYTES * 8


def sums_bits(spec: GemmSpec) -> int:
    """Width of a GEMM's sums; with blocks of the sums across them."""
    return spec.across.result_format.bits if spec.block else accumulator_bits(spec)[1]


def _total(counts: Sequence[int | None]) -> int | None:
    known = [c for c in counts if c is not None]
    return sum(known) if len(known) == len(counts) else None


def emit_native(layout: Contraction, role: Role, at: CallSite, kept_size: int = 0) -> None:
    """Put a native float32 GEMM on record."""
    if recording():
        emit(replace(gemm_event(layout, role, None, at.layer), kept_bytes=kept_size))


def accumulator_bits(spec: GemmSpec) -> tuple[int, int]:
    """Widths of the inner and of the outer accumulator."""
    if isinstance(spec.mac, FloatMacUnit):
        return spec.mac.accumulator.bits, (spec.mac.outer or spec.mac.accumulator).bits
    return spec.mac.accumulator_bits, spec.mac.result_bits


def drawn_bits(spec: GemmSpec, reduction: int) -> int:
    """Random bits that the accumulators draw for one result, one lot for each addition that rounds stochastically."""
    if not spec.block:
        return _drawn(spec.mac, reduction)
    full, rest = divmod(reduction, spec.block)
    inside = full * _drawn(spec.mac, spec.block) + _drawn(spec.mac, rest)
    return inside + _drawn(spec.across, full + (rest > 0))


def _drawn(mac: MacUnit | FloatMacUnit, terms: int) -> int:
    if not isinstance(mac, FloatMacUnit) or not mac.rounding.is_stochastic or not terms:
        return 0
    return mac.additions(terms) * mac.rounding.random_bits


def term_additions(spec: GemmSpec) -> tuple[int, int]:
    """Additions that a term takes in the inner and in the outer accumulator: compensated summation has four."""
    outer = spec.across if spec.block else spec.mac
    inner, across = (4 if isinstance(mac, FloatMacUnit) and mac.kahan else 1 for mac in (spec.mac, outer))
    return inner, across


def _operand(quantizer: Quantizer) -> Operand:
    fmt = quantizer.format
    scale = (str(fmt.scale) if isinstance(fmt, BlockFormat) else "fp32") if quantizer.block else ""
    return Operand(format=str(fmt), bits=quantizer.element_format.bits, block=quantizer.block, scale=scale)


def gemm_event(layout: Contraction, role: Role, spec: GemmSpec | None, layer: str) -> GemmEvent:
    """The event of a role's GEMMs; without a spec, of native float32 ones."""
    rows, columns, reduction = layout.sizes(role)
    native = Operand(format="fp32", bits=32)
    inner, outer = accumulator_bits(spec) if spec else (32, 32)
    chunk = (spec.block or spec.mac.chunk) if spec else 0
    return GemmEvent(
        role=role,
        M=rows,
        N=columns,
        K=reduction,
        lhs=_operand(spec.lhs) if spec else native,
        rhs=_operand(spec.rhs) if spec else native,
        accumulator_bits=inner,
        overflow=spec.mac.overflow if spec and isinstance(spec.mac, MacUnit) else "float",
        chunk=chunk,
        outer_bits=(spec.across.accumulator.bits if spec and spec.block else outer),
        term_additions=term_additions(spec) if spec else (1, 1),
        layer=layer,
        count=layout.count,
        backend="" if spec else "native",
        conv=layout.conv,
    )
