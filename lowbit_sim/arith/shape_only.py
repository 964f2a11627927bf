"""The result of a GEMM of operands without data (torch's meta device): its shape and its count of additions.

No arithmetic runs, so whether an addition overflowed is not known, and nobody chose a backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.arith.spec import GemmSpec

#: The name that stands for a backend.
NAME = "shape_only"


def shape_only(spec: GemmSpec, a: Tensor, b: Tensor) -> GemmResult:
    """What `run_gemm`, `run_float_gemm` or `run_block_gemm` returns for such operands, but for the numbers.

    Args:
        spec: The GEMM's numerics.
        a: [M, K] on the meta device.
        b: [K, N] likewise.

    Raises:
        ValueError: Shapes that don't fit.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"gemm takes [M, K] and [K, N], got {list(a.shape)} and {list(b.shape)}")
    whole = isinstance(spec.mac, MacUnit) and not spec.block
    dtype = result_dtype(spec.mac) if whole and isinstance(spec.mac, MacUnit) else torch.float32
    values = torch.empty(a.shape[0], b.shape[1], dtype=dtype, device="meta")
    return GemmResult(
        values=values,
        overflows=None,
        additions=values.numel() * additions_of_result(spec, a.shape[1]),
        backend=NAME,
        why="operands without data",
    )


def additions_of_result(spec: GemmSpec, reduction: int) -> int:
    """Accumulator additions of one element of the result; with blocks those inside them and those across them."""
    if not spec.block:
        return spec.mac.additions(reduction)
    full, rest = divmod(reduction, spec.block)
    inside = full * spec.mac.additions(spec.block) + (spec.mac.additions(rest) if rest else 0)
    return inside + spec.across.additions(full + (rest > 0))
