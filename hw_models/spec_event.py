"""The event of a GEMM that nobody ran yet, from the numerics that a machine gives it."""

from __future__ import annotations

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import GemmEvent, Operand, Role

_NATIVE = Operand(format="fp32", bits=32)


def spec_event(spec: GemmSpec | None, role: Role, M: int, N: int, K: int) -> GemmEvent:
    """The event of a GEMM of one role, without a convolution behind it.

    Args:
        spec: Its numerics; None for native float32.
        role: Its role.
        M: Rows of the left operand.
        N: Columns of the right operand.
        K: Length of the reduction.
    """
    if spec is None:
        return GemmEvent(
            role=role,
            M=M,
            N=N,
            K=K,
            lhs=_NATIVE,
            rhs=_NATIVE,
            accumulator_bits=32,
            overflow="float",
            outer_bits=32,
            backend="native",
        )
    inner, outer = _accumulator_bits(spec)
    return GemmEvent(
        role=role,
        M=M,
        N=N,
        K=K,
        lhs=_operand(spec.lhs),
        rhs=_operand(spec.rhs),
        accumulator_bits=inner,
        overflow="float" if isinstance(spec.mac, FloatMacUnit) else spec.mac.overflow,
        chunk=spec.block or spec.mac.chunk,
        outer_bits=outer,
        term_additions=_term_additions(spec),
    )


def _accumulator_bits(spec: GemmSpec) -> tuple[int, int]:
    """Widths of the inner accumulator and of what moves on."""
    if isinstance(spec.mac, FloatMacUnit):
        inner, outer = spec.mac.accumulator.bits, spec.mac.result_format.bits
    else:
        inner, outer = spec.mac.accumulator_bits, spec.mac.result_bits
    return inner, spec.across.accumulator.bits if spec.block else outer


def _term_additions(spec: GemmSpec) -> tuple[int, int]:
    """Additions that a term takes in the inner accumulator and in that of what moves on."""
    inner, outer = spec.mac, spec.across if spec.block else spec.mac
    return _compensated(inner), _compensated(outer)


def _compensated(mac: MacUnit | FloatMacUnit) -> int:
    return 4 if isinstance(mac, FloatMacUnit) and mac.kahan else 1


def _operand(quantizer: Quantizer) -> Operand:
    fmt, bits = quantizer.format, quantizer.element_format.bits
    if not quantizer.block:
        return Operand(format=str(fmt), bits=bits)
    scale = str(fmt.scale) if isinstance(fmt, BlockFormat) else "fp32"
    return Operand(format=str(fmt), bits=bits, block=quantizer.block, scale=scale)
