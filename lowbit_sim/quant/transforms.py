"""Transforms of a GEMM's operands that make them easier to quantise and leave the product as it is.

A transform maps the float matrices lhs [M, K] and rhs [K, N] to lhs' and rhs' and knows how to get the product of
the first two from that of the second two. In exact arithmetic undo(lhs' rhs') = lhs rhs; quantising happens between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lowbit_sim.numerics.whole import is_whole

Undo = Callable[[Tensor], Tensor]


class Transform(Protocol):
    """What `GemmSpec.transform` takes."""

    def forward(self, lhs: Tensor, rhs: Tensor) -> tuple[Tensor, Tensor, Undo]:
        """The transformed operands, and what makes the result of theirs that of the given ones.

        Args:
            lhs: float32 [M, K].
            rhs: float32 [K, N].

        Returns:
            lhs' [M', K'], rhs' [K', N'] and a function of a float32 [M', N'] to [M, N].
        """
        ...


@dataclass(frozen=True)
class HadamardTransform:
    """Rotates both operands along K, block by block: (X H)(H^T W) = X W.

    H = blockdiag(H_k) with the orthonormal symmetric Hadamard matrix H_k = [[1, 1], [1, -1]]^(x k) / 2^(k/2) of
    `block` = 2^k rows. An outlier is spread over its block, so that a scale fits all of it. K is padded with zeros
    to whole blocks. Source: Xi et al. 2023, "Training Transformers with 4-bit Integers" (NeurIPS).

    Computed by butterflies: log2(block) stages of float32 sums and differences, the halves of a block first, then one
    multiply by fp32(2^(-k/2)).

    Args:
        block: A power of two, 2 to 2^16.

    Raises:
        ValueError: Another block.
    """

    block: int

    def __post_init__(self) -> None:
        if not is_whole(self.block, 2, 1 << 16) or self.block & (self.block - 1):
            raise ValueError(f"a Hadamard block is a power of two from 2 to 2^16, got block={self.block!r}")

    def __str__(self) -> str:
        return f"hadamard {self.block}"

    def forward(self, lhs: Tensor, rhs: Tensor) -> tuple[Tensor, Tensor, Undo]:
        """See `Transform`; the result needs no undoing.

        Raises:
            ValueError: An operand holds infinities.
        """
        check_finite(lhs, "lhs")
        check_finite(rhs, "rhs")
        return hadamard(lhs, self.block), hadamard(rhs.t(), self.block).t(), lambda result: result


def hadamard(x: Tensor, block: int) -> Tensor:
    """X H: each run of `block` elements along the last axis times H_k; the last run is padded with zeros.

    Args:
        x: float32 [..., L].
        block: 2^k.

    Returns:
        float32 [..., ceil(L / block) * block].
    """
    padding = -x.shape[-1] % block
    y = torch.nn.functional.pad(x, (0, padding)) if padding else x
    shape, half = y.shape, block // 2
    while half:
        y = y.reshape(*shape[:-1], shape[-1] // (2 * half), 2, half)
        top, bottom = y.unbind(-2)
        y = torch.stack((top + bottom, top - bottom), -2)
        half //= 2
    return y.reshape(shape) * torch.tensor(1.0 / math.sqrt(block), dtype=torch.float32, device=x.device)


def check_finite(x: Tensor, name: str) -> None:
    """Refuse infinities: mixed with others they would become NaN. NaN passes, for the quantiser to report.

    Raises:
        ValueError: x holds infinities.
    """
    if x.is_meta:
        return
    infinite = int(torch.isinf(x).sum())
    if infinite:
        raise ValueError(
            f"a transform mixes elements, so they must be finite, but {infinite} of the {x.numel()} elements of "
            f"{name} are infinite: without the transform they would saturate"
        )
