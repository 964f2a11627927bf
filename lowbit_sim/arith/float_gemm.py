"""The emulated matrix product of values in a floating-point accumulator.

`run_float_gemm` takes the fastest path that provably returns the bits of `float_reference.py`: a library product
where no addition can round, the machine's own float32 additions where the accumulator is float32 and every
product fits it, the compiled accumulator elsewhere.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType

import torch
from torch import Tensor

from lowbit_sim.arith import float_exact, float_numba, float_reference
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.threads import refuse_flushed_subnormals

#: Every backend is a module with NAME, why_not(mac, a, b) and run(mac, a, b, stream).
BACKENDS: dict[str, ModuleType] = {m.NAME: m for m in (float_reference, float_numba, float_exact)}


def run_float_gemm(
    a: Tensor,
    b: Tensor,
    mac: FloatMacUnit,
    *,
    stream: Stream | None = None,
    backend: str | None = None,
    count_overflows: bool = True,
) -> GemmResult:
    """Multiply float32 matrices as the machine's floating-point MAC unit would.

    Args:
        a: Values, float32 [M, K].
        b: Values, float32 [K, N].
        mac: The multiply-accumulate unit.
        stream: Address of the random bits, for stochastic rounding: addition i of result (m, n) draws element
            (m N + n) A + i, where A = `mac.additions(K)`.
        backend: "reference", "numba_cpu" or "torch_exact"; by default the fastest that is exact.
        count_overflows: Every backend counts, whether asked or not.

    Returns:
        The result with float32 values [M, N].

    Raises:
        TypeError: An operand that is not a float32 tensor.
        ValueError: Shapes that don't fit, stochastic rounding without a stream, a NaN in a format that has none,
            or a backend that is unknown or can't run this.
    """
    _check(a, b, mac, stream)
    refuse_flushed_subnormals()
    a, b = a.detach(), b.detach()
    result = _fastest(a, b, mac, stream) if backend is None else _forced(a, b, mac, stream, backend)
    additions = a.shape[0] * b.shape[1] * mac.additions(a.shape[1])
    return dataclasses.replace(result, additions=additions)


def _check(a: Tensor, b: Tensor, mac: FloatMacUnit, stream: Stream | None) -> None:
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or x.dtype != torch.float32:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"a floating-point GEMM takes float32 values, got {got} for operand {name}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"gemm takes [M, K] and [K, N], got {list(a.shape)} and {list(b.shape)}")
    if a.device != b.device:
        raise ValueError(f"gemm takes operands on one device, got {a.device} and {b.device}")
    if mac.rounding.is_stochastic and stream is None:
        raise ValueError(
            "the accumulator rounds stochastically and needs a stream of random bits: pass stream="
        )


def _forced(a: Tensor, b: Tensor, mac: FloatMacUnit, stream: Stream | None, backend: str) -> GemmResult:
    if backend not in BACKENDS:
        raise ValueError(unknown("backend", backend, BACKENDS))
    module = BACKENDS[backend]
    reason = module.why_not(mac, a, b)
    if reason:
        raise ValueError(f"backend {backend!r} can't run this GEMM: {reason}")
    return module.run(mac, a, b, stream)


def _fastest(a: Tensor, b: Tensor, mac: FloatMacUnit, stream: Stream | None) -> GemmResult:
    proof = float_exact.prove(mac, a, b)
    if isinstance(proof, float_exact.Proof):
        return float_exact.proven(proof)
    reason = float_numba.why_not(mac, a, b)
    if reason:
        raise ValueError(f"no backend can run this GEMM: {proof}, and {float_numba.NAME} can't: {reason}")
    result = float_numba.run(mac, a, b, stream)
    return dataclasses.replace(result, why=f"{proof}; {result.why}")
