"""An arm's numerics in the few words that fit a table's cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec


def operands(spec: OpSpec | None) -> str:
    """Formats of the operands: "int8", or "output int8, grad_input int4, ..." where the GEMMs differ."""
    return _by_gemm(spec, _formats)


def accumulator(spec: OpSpec | None) -> str:
    """The accumulators: "16-bit saturate", "32-bit wrap, chunks of 16 into 40-bit"."""
    return _by_gemm(spec, lambda gemm: _mac(gemm.mac))


def gradient_rounding(spec: OpSpec | None) -> str:
    """Rounding of the output's gradient in the backward GEMMs: "nearest_even", "stochastic (r=8)" (r random bits)."""
    gemms = [g for g in (spec.grad_input, spec.grad_weight) if g is not None] if spec else []
    return " / ".join(_distinct(_rounding(gemm) for gemm in gemms)) or "none"


def _by_gemm(spec: OpSpec | None, words: Callable[[GemmSpec], str]) -> str:
    if spec is None:
        return "fp32"
    gemms = {"output": spec.output, "grad_input": spec.grad_input, "grad_weight": spec.grad_weight}
    texts = {role: words(gemm) if gemm else "fp32" for role, gemm in gemms.items()}
    if len(set(texts.values())) == 1:
        return texts["output"]
    return ", ".join(f"{role} {text}" for role, text in texts.items())


def _formats(gemm: GemmSpec) -> str:
    return " x ".join(_distinct((str(gemm.lhs.format), str(gemm.rhs.format))))


def _mac(mac: MacUnit | FloatMacUnit) -> str:
    plain = MacUnit.__dataclass_fields__.keys() - {"accumulator_bits", "overflow", "chunk", "outer_bits"}
    if isinstance(mac, FloatMacUnit) or any(getattr(mac, name) != getattr(MacUnit(), name) for name in plain):
        return str(mac)
    text = f"{mac.accumulator_bits}-bit {mac.overflow}"
    if mac.chunk:
        text += f", chunks of {mac.chunk} into {mac.result_bits}-bit"
    elif mac.outer_bits:
        text += f" into {mac.outer_bits}-bit"
    return text


def _rounding(gemm: GemmSpec) -> str:
    rounding = gemm.lhs.rounding
    bits = f" (r={rounding.random_bits})" if rounding.is_stochastic else ""
    return f"{rounding.mode}{bits}"


def _distinct(texts: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(texts))
