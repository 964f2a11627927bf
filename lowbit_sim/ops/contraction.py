"""How an operator's three GEMMs are laid out: the one thing in which operators differ.

An operator of an input x and a weight w, with g = dL/dy, is three GEMMs:

| role        | lhs | rhs | result like |
|-------------|-----|-----|-------------|
| output      | x   | w   | y           |
| grad_input  | g   | w   | x           |
| grad_weight | g   | x   | w           |

A `Contraction` says how each tensor becomes matrices and how the matrices of results become a tensor. What
happens to the numbers in between (`emulated.py`) is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from lowbit_sim.trace import ConvGeometry, Role

Side = Literal["lhs", "rhs"]

#: The tensor behind each operand.
TENSORS: dict[tuple[str, str], str] = {
    ("output", "lhs"): "input",
    ("output", "rhs"): "weight",
    ("grad_input", "lhs"): "grad_output",
    ("grad_input", "rhs"): "weight",
    ("grad_weight", "lhs"): "grad_output",
    ("grad_weight", "rhs"): "input",
}


@dataclass(frozen=True, kw_only=True)
class BoundedCodes:
    """An operand's codes, as whole numbers of which none is larger than the format's.

    Attributes:
        codes: int8, contiguous, in the tensor's own layout.
        largest: The largest magnitude that a code may have.
    """

    codes: Tensor
    largest: int


class Contraction(Protocol):
    """The layout of one operator for tensors of given shapes. A frozen dataclass implements it."""

    @property
    def count(self) -> int:
        """GEMMs of equal size that each role takes: groups of a convolution, matrices of a batch."""
        ...

    @property
    def conv(self) -> ConvGeometry | None:
        """The convolution behind the GEMMs, for the trace."""
        ...

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(M, N, K) of each GEMM of a role."""
        ...

    def matrices(self, role: Role, side: Side, tensor: Tensor) -> list[Tensor]:
        """The operand as `count` matrices: [M, K] on the left, [K, N] on the right. Any dtype; padding is 0."""
        ...

    def assemble(self, role: Role, parts: Sequence[Tensor]) -> Tensor:
        """The result tensor of `count` matrices [M, N], contiguous."""
        ...

    def together(self, role: Role, side: Side) -> int:
        """Neighbours along the reduction, from its start on, that come together wherever one of them occurs.

        All of them where no element of the tensor occurs twice in a matrix. In overlapping windows with channels
        innermost it is a position's channels, and a block of them is the same block in every window.
        """
        ...

    def reduced(self, role: Role, side: Side) -> Sequence[int]:
        """The axes of the operand's tensor that the GEMM sums over."""
        ...

    def scale(self, role: Role, side: Side, scale: Tensor) -> Tensor:
        """The operand's scale (1 along the reduced axes) laid out to broadcast against the result tensor."""
        ...

    def native(self, role: Role, lhs: Tensor, rhs: Tensor) -> Tensor:
        """The result tensor by torch's own float32 operator."""
        ...

    def scaled_sums(self, role: Role, lhs: BoundedCodes, rhs: BoundedCodes, scale: Tensor) -> Tensor | None:
        """fp32(sums) * scale, the result tensor of codes whose sums fit int32 in any order, without matrices.

        `scale` broadcasts against the result. None where there is no faster way than matrices; the bits are those of
        matrices in any case.
        """
        ...
