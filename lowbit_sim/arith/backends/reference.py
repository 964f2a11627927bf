"""The definition of the arithmetic of a GEMM: Python integers, three loops."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.reference import round_to_integer

NAME = "reference"


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """The reference runs everything."""
    return None


def add(accumulator: int, term: int, bits: int, overflow: str) -> tuple[int, bool]:
    """One addition: the accumulator's new value, and whether it overflowed."""
    low, high = accumulator_range(bits, overflow)
    total = accumulator + term
    if low <= total <= high:
        return total, False
    if overflow == "wrap":
        return (total - low) % (1 << bits) + low, True
    return (high if total > high else low), True


def sequential_sum(terms: list[int], bits: int, overflow: str) -> tuple[int, int]:
    """Terms added to zero one after the other: the last value, and how many additions overflowed."""
    total, overflows = 0, 0
    for term in terms:
        total, overflowed = add(total, term, bits, overflow)
        overflows += overflowed
    return total, overflows


def tree_sum(terms: list[int], bits: int, overflow: str) -> tuple[int, int]:
    """Neighbours added level by level; the last of an odd number moves up as it is.

    Every term enters as an addition to zero.
    """
    level, overflows = [], 0
    for term in terms:
        leaf, overflowed = add(0, term, bits, overflow)
        level.append(leaf)
        overflows += overflowed
    while len(level) > 1:
        above = []
        for left, right in zip(level[::2], level[1::2], strict=False):
            node, overflowed = add(left, right, bits, overflow)
            above.append(node)
            overflows += overflowed
        level = above + level[len(level) & ~1 :]
    return sum(level), overflows


def chunk_sum(products: list[int], mac: MacUnit) -> tuple[int, int]:
    """The inner accumulator after a chunk's products, and how many of its additions overflowed."""
    if mac.overflow_at == "outer":
        return sum(products), 0
    if mac.overflow_at == "chunk":
        return sequential_sum([sum(products)], mac.accumulator_bits, mac.overflow)
    rule = tree_sum if mac.order == "tree" else sequential_sum
    return rule(products, mac.accumulator_bits, mac.overflow)


def dot(a: list[int], b: list[int], mac: MacUnit) -> tuple[int, int]:
    """One result of a GEMM: the outer accumulator's last value, and how many additions overflowed."""
    products = [
        x * y if mac.products is None else mac.products.product(x, y) for x, y in zip(a, b, strict=True)
    ]
    length = mac.chunk_length(len(products))
    outer, overflows = 0, 0
    for start in range(0, len(products), length):
        inner, count = chunk_sum(products[start : start + length], mac)
        moved = round_to_integer(Fraction(inner, 1 << mac.truncated_bits), mac.truncation)
        outer, overflowed = add(outer, moved, mac.result_bits, mac.overflow)
        overflows += count + overflowed
    return outer << mac.truncated_bits, overflows


def run(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """a [M, K] times b [K, N]."""
    rows, columns = a.tolist(), b.t().tolist()
    values = torch.empty(a.shape[0], b.shape[1], dtype=result_dtype(mac))
    overflows = 0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            values[i, j], count = dot(row, column, mac)
            overflows += count
    return GemmResult(values=values.to(a.device), overflows=overflows, backend=NAME, why="asked for")
