"""A tree of adders by torch's operations, on any device: for GPUs, whose compiled kernel adds in sequence.

The products of a chunk are written out for some rows at a time, and each level of the tree is one addition of all
even neighbours to all odd ones. That moves some 60 bytes for a multiply-accumulate, so it is bound by memory: an
H200's 4.8 TB/s allow 8e10 of them a second.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.arith.backends.torch_exact import _fit, _shift_right
from lowbit_sim.arith.bounds import MAX_OPERAND, dtype_magnitude
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult, result_dtype

NAME = "torch_tree"

#: Products that are held at once.
_PRODUCTS = 1 << 26

#: Widest accumulator of which two can be added in int64.
_WIDEST = 62


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """None, or why this unit's sums are not a tree's or don't fit."""
    if mac.order != "tree" or mac.overflow_at != "addition":
        return "it adds in a tree with overflow at every addition, which this unit does not"
    if not mac.exact_products:
        return f"products come from the table {mac.products}"
    largest = min(dtype_magnitude(a), MAX_OPERAND) * min(dtype_magnitude(b), MAX_OPERAND)
    if max(a.shape[1], 1) * largest >= 1 << (_WIDEST - 1):
        return f"sums of {a.shape[1]} products may leave an int64 lane"
    return None


def run(mac: MacUnit, a: Tensor, b: Tensor, *, count_overflows: bool = True) -> GemmResult:
    """a [M, K] times b [K, N]."""
    chunk = mac.chunk_length(a.shape[1])
    rows = max(1, _PRODUCTS // max(1, min(chunk, a.shape[1]) * b.shape[1]))
    wide = b.to(torch.int64)
    parts = [_rows(mac, part.to(torch.int64), wide, chunk) for part in a.split(rows)]
    values = torch.cat([part for part, _ in parts])
    overflows = torch.stack([count for _, count in parts]).sum()
    return GemmResult(
        values=values.to(result_dtype(mac)), overflows=int(overflows), backend=NAME, why="tree accumulation"
    )


def _rows(mac: MacUnit, a: Tensor, b: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The results of some rows, and how many of their additions overflowed."""
    outer = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int64, device=a.device)
    overflows = torch.zeros((), dtype=torch.int64, device=a.device)
    for left, right in zip(a.split(chunk, dim=1), b.split(chunk), strict=True):
        if not right.shape[0]:
            continue
        inner, count = _chunk(mac, left, right)
        outer, beyond = _bounded(
            outer + _shift_right(inner, mac.truncated_bits, mac.truncation), mac.result_bits, mac
        )
        overflows += count + beyond
    return outer << mac.truncated_bits, overflows


def _chunk(mac: MacUnit, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The root over a chunk's products; a product enters as if it were added to zero."""
    level, overflows = _bounded(a[:, :, None] * b, mac.accumulator_bits, mac)  # [rows, products, N]
    while (count := level.shape[1]) > 1:
        above, beyond = _bounded(level[:, : count - 1 : 2] + level[:, 1::2], mac.accumulator_bits, mac)
        overflows = overflows + beyond
        level = torch.cat([above, level[:, count & ~1 :]], dim=1)
    return level[:, 0], overflows


def _bounded(sums: Tensor, bits: int, mac: MacUnit) -> tuple[Tensor, Tensor]:
    # Wider accumulators can't overflow: all products together stay below 2^61.
    return _fit(sums, min(bits, _WIDEST), mac.overflow)
