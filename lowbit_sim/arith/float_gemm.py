"""The emulated matrix product of values in a floating-point accumulator.

`run_float_gemm` takes the fastest path that provably returns the bits of `float_reference.py`: a library product
where no addition can round, float32 lanes where every product fits them and a first rounding to float32 does no
harm, the compiled accumulator in float64 elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from lowbit_sim.arith import float_exact, float_numba, float_reference, float_triton, lanes_gemm, lanes_plan
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import extent
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.threads import refuse_flushed_subnormals

#: Every backend is a module with NAME, why_not(mac, a, b) and run(mac, a, b, stream).
BACKENDS: dict[str, ModuleType] = {
    m.NAME: m for m in (float_reference, float_numba, float_exact, float_triton)
}


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
        backend: "reference", "numba_cpu", "torch_exact" or "triton_gpu"; by default the fastest that is exact.
        count_overflows: False where nobody asks for overflows and swamped additions: they may be None then.

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
    result = (
        _fastest(a, b, mac, stream, count_overflows)
        if backend is None
        else _forced(a, b, mac, stream, backend)
    )
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


def _fastest(a: Tensor, b: Tensor, mac: FloatMacUnit, stream: Stream | None, counting: bool) -> GemmResult:
    if a.device.type != "cpu":
        return _fastest_on_device(a, b, mac, stream, counting)
    extents = extent(a), extent(b)
    proof = float_exact.prove(mac, a, b, extents)
    if isinstance(proof, float_exact.Proof):
        return float_exact.proven(proof)
    result = float_numba.run(mac, a, b, stream, counting, extents)
    return dataclasses.replace(result, why=f"{proof}; {result.why}")


def _fastest_on_device(
    a: Tensor, b: Tensor, mac: FloatMacUnit, stream: Stream | None, counting: bool
) -> GemmResult:
    proof = float_exact.prove(mac, a, b)
    if isinstance(proof, float_exact.Proof):
        return float_exact.proven(proof)
    reason = float_triton.why_not(mac, a, b)
    if reason:
        raise ValueError(f"no backend can run this GEMM: {proof}, and {float_triton.NAME} can't: {reason}")
    result = float_triton.run(mac, a, b, stream, counting)
    return dataclasses.replace(result, why=f"{proof}; {result.why}")


def run_float_gemms(
    lhs: Sequence[Tensor],
    rhs: Sequence[Tensor],
    mac: FloatMacUnit,
    *,
    stream: Stream | None = None,
    apart: int = 0,
    backend: str | None = None,
    count_overflows: bool = True,
) -> list[GemmResult]:
    """`run_float_gemm` of each pair of operands, in one go where they are alike: groups of a convolution, heads.

    Args:
        lhs: Values, float32 [M, K] each.
        rhs: Values, float32 [K, N] each, as many.
        mac: The multiply-accumulate unit.
        stream: Address of the first GEMM's random bits.
        apart: Elements of the stream from one GEMM's to the next.
        backend: As in `run_float_gemm`.
        count_overflows: As in `run_float_gemm`.

    Raises:
        TypeError, ValueError: As `run_float_gemm`.
    """
    if backend is None and len(lhs) > 1:
        together = _together(lhs, rhs, mac, stream, apart, count_overflows)
        if together is not None:
            return together
    return [
        run_float_gemm(
            a,
            b,
            mac,
            stream=None if stream is None else dataclasses.replace(stream, offset=stream.offset + i * apart),
            backend=backend,
            count_overflows=count_overflows,
        )
        for i, (a, b) in enumerate(zip(lhs, rhs, strict=True))
    ]


def _together(
    lhs: Sequence[Tensor],
    rhs: Sequence[Tensor],
    mac: FloatMacUnit,
    stream: Stream | None,
    apart: int,
    counting: bool,
) -> list[GemmResult] | None:
    """All products by one kernel, where one plan serves them all."""
    alike = all(x.shape == side[0].shape for side in (lhs, rhs) for x in side)
    if not alike or lhs[0].device.type != "cpu" or not (lhs[0].numel() and rhs[0].numel()):
        return None
    for a, b in zip(lhs, rhs, strict=True):
        _check(a, b, mac, stream)
    refuse_flushed_subnormals()
    left, right = torch.stack([x.detach() for x in lhs]), torch.stack([x.detach() for x in rhs])
    plan = lanes_plan.plan(mac, extent(left), extent(right), left.shape[2])
    if isinstance(plan, str):
        return None
    results = lanes_gemm.run(mac, plan, left, right, stream, counting, apart=apart)
    additions = left.shape[1] * right.shape[2] * mac.additions(left.shape[2])
    return [dataclasses.replace(r, additions=additions) for r in results]
