"""The emulated matrix product: integer codes in, exactly the machine's accumulators out.

`gemm` takes the fastest path that provably returns the bits of `backends/reference.py`: a library product
where no overflow can happen, the compiled sequential accumulator for the rows and columns where one could.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Literal, overload

import torch
from torch import Tensor

from lowbit_sim.arith.backends import numba_cpu, reference, torch_exact
from lowbit_sim.arith.bounds import MAX_OPERAND, Unproven, find_unproven, magnitude
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.suggest import unknown

#: Every backend is a module with NAME, why_not(mac, a, b, count_overflows) and run(mac, a, b).
BACKENDS: dict[str, ModuleType] = {m.NAME: m for m in (reference, numba_cpu, torch_exact)}

_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

# With fewer unproven elements than this share, only they take the sequential kernel; with more, the exact
# product of all would be work thrown away.
_MIXED_SHARE = 0.5


@overload
def gemm(
    a: Tensor, b: Tensor, mac: MacUnit = ..., *, backend: str | None = ..., explain: Literal[False] = ...
) -> Tensor: ...


@overload
def gemm(
    a: Tensor, b: Tensor, mac: MacUnit = ..., *, backend: str | None = ..., explain: Literal[True]
) -> tuple[Tensor, GemmResult]: ...


def gemm(
    a: Tensor, b: Tensor, mac: MacUnit = MacUnit(), *, backend: str | None = None, explain: bool = False
) -> Tensor | tuple[Tensor, GemmResult]:
    """Multiply integer matrices as the machine's MAC unit would.

    Args:
        a: Integer codes [M, K].
        b: Integer codes [K, N].
        mac: The multiply-accumulate unit.
        backend: "reference", "numba_cpu" or "torch_exact"; by default the fastest that is exact.
        explain: Also return which backend ran and why, with the overflow count (which `explain` has counted
            even where a wrapping accumulator would not need it).

    Returns:
        int32 [M, N] (int64 if the result has more than 32 bits), and with `explain` the `GemmResult`.

    Raises:
        TypeError: An operand that is not an integer tensor.
        ValueError: Shapes that don't fit, values beyond +-65535, or a backend that is unknown or can't run this.
    """
    result = run_gemm(a, b, mac, backend=backend, count_overflows=explain)
    return (result.values, result) if explain else result.values


def run_gemm(
    a: Tensor, b: Tensor, mac: MacUnit, *, backend: str | None = None, count_overflows: bool = True
) -> GemmResult:
    """`gemm` with the whole result.

    Args:
        a: Integer codes [M, K].
        b: Integer codes [K, N].
        mac: The multiply-accumulate unit.
        backend: A backend's name, or None for the fastest that is exact.
        count_overflows: Whether overflows must be counted. Wrapping sums do not depend on their order but their
            overflows do, so without counting more cases take the library product.

    Raises:
        TypeError, ValueError: As `gemm`.
    """
    _check(a, b)
    if backend is None:
        result = _fastest(a, b, mac, count_overflows)
    else:
        result = _forced(a, b, mac, backend, count_overflows)
    additions = result.values.numel() * mac.additions(a.shape[1])
    return dataclasses.replace(result, additions=additions)


def _check(a: Tensor, b: Tensor) -> None:
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or x.dtype not in _INTEGERS:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"gemm takes integer codes, got {got} for operand {name}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"gemm takes [M, K] and [K, N], got {list(a.shape)} and {list(b.shape)}")
    if a.device != b.device:
        raise ValueError(f"gemm takes operands on one device, got {a.device} and {b.device}")
    for name, x in (("a", a), ("b", b)):
        if x.dtype.itemsize > 2 and magnitude(x) > MAX_OPERAND:
            raise ValueError(f"operand {name} holds {magnitude(x)}; codes lie within +-{MAX_OPERAND}")


def _forced(a: Tensor, b: Tensor, mac: MacUnit, backend: str, count_overflows: bool) -> GemmResult:
    if backend not in BACKENDS:
        raise ValueError(unknown("backend", backend, BACKENDS))
    module = BACKENDS[backend]
    reason = module.why_not(mac, a, b, count_overflows)
    if reason:
        raise ValueError(f"backend {backend!r} can't run this GEMM: {reason}")
    return module.run(mac, a, b)


def _fastest(a: Tensor, b: Tensor, mac: MacUnit, count_overflows: bool) -> GemmResult:
    if mac.overflow == "wrap" and not count_overflows:
        return torch_exact.uncounted(mac, a, b)
    unproven = find_unproven(mac, a, b)
    if unproven.empty:
        return torch_exact.proven(mac, a, b, unproven.why)
    reason = numba_cpu.why_not(mac, a, b, count_overflows)
    if reason:
        raise ValueError(
            f"no backend can run this GEMM: {unproven.why}, and {numba_cpu.NAME} can't: {reason}"
        )
    share = len(unproven.rows) * len(unproven.columns) / (a.shape[0] * b.shape[1])
    if share > _MIXED_SHARE:
        return dataclasses.replace(numba_cpu.run(mac, a, b), why=unproven.why)
    return _mixed(a, b, mac, unproven)


def _mixed(a: Tensor, b: Tensor, mac: MacUnit, unproven: Unproven) -> GemmResult:
    """The exact product everywhere, overwritten where no bound covers it."""
    values = torch_exact.exact_product(a, b).to(result_dtype(mac))
    part = numba_cpu.run(mac, a[unproven.rows], b[:, unproven.columns])
    values[unproven.rows[:, None], unproven.columns] = part.values
    return GemmResult(
        values=values,
        overflows=part.overflows,
        backend=f"{torch_exact.NAME}+{numba_cpu.NAME}",
        why=unproven.why,
    )
