"""The definition of the arithmetic of a GEMM: Python integers, three loops."""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.result import GemmResult, result_dtype

NAME = "reference"


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """The reference runs everything."""
    return None


def add(accumulator: int, term: int, bits: int, overflow: str) -> tuple[int, bool]:
    """One addition: the accumulator's new value, and whether it overflowed."""
    low, high = accumulator_range(bits)
    total = accumulator + term
    if low <= total <= high:
        return total, False
    if overflow == "saturate":
        return (high if total > high else low), True
    return (total - low) % (1 << bits) + low, True


def dot(a: list[int], b: list[int], mac: MacUnit) -> tuple[int, int]:
    """One result of a GEMM: the outer accumulator's last value, and how many additions overflowed."""
    outer, overflows = 0, 0
    for start in range(0, len(a), mac.chunk_length(len(a))):
        inner = 0
        for k in range(start, min(start + mac.chunk_length(len(a)), len(a))):
            inner, overflowed = add(inner, a[k] * b[k], mac.accumulator_bits, mac.overflow)
            overflows += overflowed
        outer, overflowed = add(outer, inner, mac.result_bits, mac.overflow)
        overflows += overflowed
    return outer, overflows


def run(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """a [M, K] times b [K, N]."""
    rows, columns = a.tolist(), b.t().tolist()
    values = torch.empty(a.shape[0], b.shape[1], dtype=result_dtype(mac))
    overflows = 0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            values[i, j], count = dot(row, column, mac)
            overflows += count
    return GemmResult(values=values, overflows=overflows, backend=NAME, why="asked for")
