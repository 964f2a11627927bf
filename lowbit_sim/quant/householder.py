"""BHQ's transform: outlier rows are spread over rows of small range, so that fewer bits serve all of them.

The rows of the left operand (samples of a gradient) are grouped, each large row with rows of small range, and each
group of n rows is multiplied by S = Q diag(s1, s2, ..., s2), where Q is the Householder reflection that maps e1
to (1, ..., 1) / sqrt(n). Rows of S x are quantised each with its own scale; S^-1 is applied to the GEMM's result.
Source: Chen et al. 2020, "A Statistical Framework for Low-bitwidth Training of Deep Neural Networks" (StatQuant,
NeurIPS), and the authors' code for the grouping:

* With the rows' ranges r sorted descending, the first H rows are the heads of groups, where H is the largest number
  for which the last head's share of the other N - H rows, (N - H) r_H / (r_1 + ... + r_H), is at least 1. Head i
  takes its share, the running sum of the shares rounded to nearest even.
* s2 / s1 = (lambda2 max|Q| / (n - 1))^(-1/3) / (lambda1 / sqrt(n))^(-1/3) with lambda1 the head's range and lambda2
  the largest of the others; it minimises a bound on |S^-1|^2 at a given range of S x. The common factor does not
  matter, as each row is scaled anyway: s1 = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.quant.transforms import Undo, check_finite

#: The least lambda2 / lambda1 that counts: rows of zeros need no infinite factor.
_LEAST_RATIO = 2.0**-60


@dataclass(frozen=True)
class HouseholderTransform:
    """Mixes rows of the left operand; see the module's docstring. The right operand stays as it is.

    Computed in float64 (sums over a group's rows in order) and rounded to float32 once. The reflection's matrix is
    not formed. The transform adapts to the data, so it is no constant; it does not depend on the random bits.
    """

    def __str__(self) -> str:
        return "householder"

    def forward(self, lhs: Tensor, rhs: Tensor) -> tuple[Tensor, Tensor, Undo]:
        """See `Transform`.

        Raises:
            ValueError: lhs holds infinities.
        """
        if lhs.is_meta:
            return torch.empty_like(lhs), rhs, torch.empty_like
        check_finite(lhs, "lhs")
        # The sums of a group go from row to row, which is the host's work for every device.
        x = lhs.cpu().numpy().astype(np.float64)
        groups = row_groups(x)

        def undo(result: Tensor) -> Tensor:
            restored = _apply(result.cpu().numpy().astype(np.float64), groups, inverse=True)
            return restored.to(result.device)

        return _apply(x, groups, inverse=False).to(lhs.device), rhs, undo


@dataclass(frozen=True, kw_only=True, eq=False)
class RowGroup:
    """Rows that are mixed.

    Attributes:
        rows: int64 [n], the head first.
        ratio: s2 / s1.
    """

    rows: np.ndarray
    ratio: float


def row_groups(x: np.ndarray) -> list[RowGroup]:
    """The groups of the rows of a float64 matrix [M, K]: every row is in one of them."""
    if not x.size:
        return []
    ranges = x.max(1) - x.min(1)
    order = np.argsort(-ranges, kind="stable")
    sorted_ranges = ranges[order]
    heads = _head_count(sorted_ranges)
    others = len(order) - heads
    total = sorted_ranges[:heads].sum()
    shares = others * sorted_ranges[:heads] / total if total > 0 else np.zeros(heads)
    ends = heads + np.rint(np.cumsum(shares)).astype(int)
    starts = np.concatenate([[heads], ends[:-1]])
    groups = []
    for head, (start, end) in enumerate(zip(starts, ends, strict=True)):
        members = np.concatenate([order[head : head + 1], order[start:end]])
        ratio = _ratio(sorted_ranges[head], sorted_ranges[start], len(members)) if end > start else 1.0
        groups.append(RowGroup(rows=members, ratio=ratio))
    return groups


def _head_count(ranges: np.ndarray) -> int:
    """H of the module's docstring for ranges in descending order; the number of rows if they are all zero."""
    count = len(ranges)
    sums = np.cumsum(ranges)
    for heads in range(count - 1, 0, -1):
        if sums[heads - 1] > 0 and (count - heads) * ranges[heads - 1] >= sums[heads - 1]:
            return heads
    return count


def _ratio(head: float, other: float, n: int) -> float:
    largest_entry = max(
        abs(1 - 1 / (n - math.sqrt(n))), 1 / math.sqrt(n), 1 / (n - math.sqrt(n)) if n > 2 else 0.0
    )
    share = max(other, head * _LEAST_RATIO) * largest_entry / (n - 1)
    return (share * math.sqrt(n) / head) ** (-1 / 3)


def _apply(x: np.ndarray, groups: list[RowGroup], inverse: bool) -> Tensor:
    """S x, or S^-1 x, of a float64 matrix: float32. Q is its own inverse."""
    y = x.copy()
    for group in groups:
        n = len(group.rows)
        if n == 1:
            continue
        block = y[group.rows]
        if not inverse:
            block[1:] *= group.ratio
        vector = np.full((n, 1), 1 / math.sqrt(n))
        vector[0] -= 1.0
        # Q = I - 2 v v^T / |v|^2 with |v|^2 = 2 - 2 / sqrt(n)
        block = block - vector * ((vector * block).sum(0) / (1.0 - 1.0 / math.sqrt(n)))
        if inverse:
            block[1:] /= group.ratio
        y[group.rows] = block
    return torch.from_numpy(y).to(torch.float32)
