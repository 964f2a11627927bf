"""Many equal GEMMs at once: the heads of an attention, the groups of a convolution.

Where one range proof covers them all, each is a library product without a proof of its own. Small ones that no range
proves run in one parallel region of the compiled accumulator; elsewhere each takes its own way through `run_gemm`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit_sim.arith.backends import numba_cpu, torch_exact
from lowbit_sim.arith.backends.cuda_products import full_precision
from lowbit_sim.arith.bounds import dtype_magnitude, dtype_proof
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult, result_dtype

#: Sums below this are exact in float32, in any order.
_FLOAT32_EXACT = 1 << 24

#: Multiply-accumulates below which a GEMM takes less time than the search for its unproven rows and columns.
_SMALL = 1 << 22


def run_gemms(
    lhs: Sequence[Tensor],
    rhs: Sequence[Tensor],
    mac: MacUnit,
    *,
    backend: str | None = None,
    count_overflows: bool = True,
) -> list[GemmResult]:
    """`run_gemm` of each pair of operands.

    Args:
        lhs: Integer codes [M, K] each.
        rhs: Integer codes [K, N] each, as many.
        mac: The multiply-accumulate unit.
        backend: A backend's name, or None for the fastest that is exact.
        count_overflows: As in `run_gemm`.

    Raises:
        TypeError, ValueError: As `run_gemm`.
    """
    if backend is None and len(lhs) > 1 and _alike(lhs, rhs, mac):
        a, b = lhs[0], rhs[0]
        proof = dtype_proof(mac, a.shape[1], a.dtype, b.dtype)
        if proof and (a.is_cpu or _fits_float32(a, b)):
            return _proven(lhs, rhs, mac, proof)
        if not proof and a.is_cpu and _in_one_region(a, b, mac, count_overflows):
            return _sequential(lhs, rhs, mac, count_overflows)
    return [
        run_gemm(a, b, mac, backend=backend, count_overflows=count_overflows)
        for a, b in zip(lhs, rhs, strict=True)
    ]


def _alike(lhs: Sequence[Tensor], rhs: Sequence[Tensor], mac: MacUnit) -> bool:
    """Whether one decision serves all: equal shapes and 8-bit codes, exact products that nothing is cut off from."""
    a, b = lhs[0], rhs[0]
    alike = all(
        x.shape == first.shape and x.dtype == first.dtype and x.dtype in (torch.int8, torch.uint8)
        for first, side in ((a, lhs), (b, rhs))
        for x in side
    )
    if not alike or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        return False
    return bool(mac.products is None and not mac.truncated_bits and a.numel() and b.numel())


def _fits_float32(a: Tensor, b: Tensor) -> bool:
    return a.shape[1] * dtype_magnitude(a) * dtype_magnitude(b) < _FLOAT32_EXACT


def _proven(lhs: Sequence[Tensor], rhs: Sequence[Tensor], mac: MacUnit, why: str) -> list[GemmResult]:
    """A library product each on the CPU, whose int8 product outruns a batched one of floats; else one for all."""
    if lhs[0].is_cpu:
        products = [torch_exact.exact_product(a, b) for a, b in zip(lhs, rhs, strict=True)]
    else:
        with torch.autocast(lhs[0].device.type, enabled=False), full_precision():
            whole = torch.stack(list(lhs)).to(torch.float32) @ torch.stack(list(rhs)).to(torch.float32)
        products = whole.unbind()
    additions = products[0].numel() * mac.additions(lhs[0].shape[1])
    dtype = result_dtype(mac)
    return [
        GemmResult(values=v.to(dtype), overflows=0, additions=additions, backend=torch_exact.NAME, why=why)
        for v in products
    ]


def _in_one_region(a: Tensor, b: Tensor, mac: MacUnit, count_overflows: bool) -> bool:
    if mac.overflow == "wrap" and not count_overflows:
        return False
    small = a.shape[0] * b.numel() <= _SMALL
    return small and numba_cpu.runs_batches(mac) and not numba_cpu.why_not(mac, a, b, count_overflows)


def _sequential(
    lhs: Sequence[Tensor], rhs: Sequence[Tensor], mac: MacUnit, count_overflows: bool
) -> list[GemmResult]:
    a, b = torch.stack(list(lhs)), torch.stack(list(rhs))
    results = numba_cpu.run_batch(mac, a, b, count_overflows=count_overflows)
    additions = results[0].values.numel() * mac.additions(a.shape[2])
    return [dataclasses.replace(r, additions=additions) for r in results]
