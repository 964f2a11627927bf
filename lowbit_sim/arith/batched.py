"""Many equal GEMMs at once: the heads of an attention, the groups of a convolution.

Where one range proof covers them all and every sum fits the 24 bits of a float32, one batched library product has the
bits of each GEMM alone; elsewhere each takes its own way through `run_gemm`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit_sim.arith.backends import torch_exact
from lowbit_sim.arith.bounds import dtype_magnitude, range_proof
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult, result_dtype

#: Sums below this are exact in float32, in any order.
_FLOAT32_EXACT = 1 << 24


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
    why = _proof(lhs, rhs, mac) if backend is None and len(lhs) > 1 else None
    if why is None:
        return [
            run_gemm(a, b, mac, backend=backend, count_overflows=count_overflows)
            for a, b in zip(lhs, rhs, strict=True)
        ]
    with torch.autocast(lhs[0].device.type, enabled=False):
        products = torch.stack(list(lhs)).to(torch.float32) @ torch.stack(list(rhs)).to(torch.float32)
    values = products.to(result_dtype(mac))  # [batch, M, N]
    additions = values[0].numel() * mac.additions(lhs[0].shape[1])
    return [
        GemmResult(values=v, overflows=0, additions=additions, backend=torch_exact.NAME, why=why)
        for v in values.unbind()
    ]


def _proof(lhs: Sequence[Tensor], rhs: Sequence[Tensor], mac: MacUnit) -> str | None:
    """A proof from the dtypes alone that no sum of any of the GEMMs overflows or leaves float32's exact integers."""
    a, b = lhs[0], rhs[0]
    alike = all(
        x.shape == first.shape and x.dtype == first.dtype and x.dtype in (torch.int8, torch.uint8)
        for first, side in ((a, lhs), (b, rhs))
        for x in side
    )
    if not alike or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        return None
    if not mac.exact_products or mac.truncated_bits or not (a.numel() and b.numel()):
        return None
    largest = dtype_magnitude(a), dtype_magnitude(b)
    if a.shape[1] * largest[0] * largest[1] >= _FLOAT32_EXACT:
        return None
    return range_proof(mac, a.shape[1], *largest)
