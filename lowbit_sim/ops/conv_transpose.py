"""Transposed convolutions, with their three GEMMs emulated.

A transposed convolution is the gradient of a convolution's input: of one that takes y to x, with the same weight
[C, O/groups, *kernel]. So its GEMMs are that convolution's in other roles:

| role here   | of that convolution        | K (last one innermost)                      |
|-------------|----------------------------|---------------------------------------------|
| output      | grad_input                 | kernel row, kernel column, input channel    |
| grad_input  | output                     | kernel row, kernel column, output channel   |
| grad_weight | grad_weight, transposed    | sample, input row, input column             |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.bias import add_bias
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.contraction import BoundedCodes, Side
from lowbit_sim.ops.conv import ConvContraction
from lowbit_sim.ops.emulated import emulated
from lowbit_sim.ops.im2col import Sizes, Window
from lowbit_sim.ops.linear import check_floating
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.trace import Role

_SWAPPED: dict[Role, Role] = {"output": "grad_input", "grad_input": "output", "grad_weight": "grad_weight"}
_OTHER: dict[Side, Side] = {"lhs": "rhs", "rhs": "lhs"}


@dataclass(frozen=True, kw_only=True)
class TransposedConvContraction:
    """x [N, C, *size] and w [C, O/groups, *kernel] to y [N, O, *output size].

    Args:
        inverse: The convolution that takes y's shape to x's.
    """

    inverse: ConvContraction

    #: The trace's geometry is that of a forward convolution, which none of these is.
    conv = None

    @property
    def count(self) -> int:
        """One GEMM for each group."""
        return self.inverse.count

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(M, N, K) of one group's GEMM."""
        rows, columns, reduction = self.inverse.sizes(_SWAPPED[role])
        return (columns, rows, reduction) if role == "grad_weight" else (rows, columns, reduction)

    def matrices(self, role: Role, side: Side, tensor: Tensor) -> list[Tensor]:
        """The inverse's matrices; for grad_weight its sides change places, as (a b)^T = b^T a^T."""
        if role == "grad_weight":
            return [m.t() for m in self.inverse.matrices(role, _OTHER[side], tensor)]
        return self.inverse.matrices(_SWAPPED[role], side, tensor)

    def assemble(self, role: Role, parts: Sequence[Tensor]) -> Tensor:
        """y, grad_input or grad_weight."""
        if role == "grad_weight":
            parts = [part.t() for part in parts]
        return self.inverse.assemble(_SWAPPED[role], parts)

    def together(self, role: Role, side: Side) -> int:
        """As the inverse's."""
        return self.inverse.together(_SWAPPED[role], _OTHER[side] if role == "grad_weight" else side)

    def reduced(self, role: Role, side: Side) -> Sequence[int]:
        """As the inverse's."""
        return self.inverse.reduced(_SWAPPED[role], _OTHER[side] if role == "grad_weight" else side)

    def scale(self, role: Role, side: Side, scale: Tensor) -> Tensor:
        """As the inverse's."""
        return self.inverse.scale(_SWAPPED[role], _OTHER[side] if role == "grad_weight" else side, scale)

    def scaled_sums(self, role: Role, lhs: BoundedCodes, rhs: BoundedCodes, scale: Tensor) -> Tensor | None:
        """As the inverse's."""
        if role == "grad_weight":
            lhs, rhs = rhs, lhs
        return self.inverse.scaled_sums(_SWAPPED[role], lhs, rhs, scale)

    def native(self, role: Role, lhs: Tensor, rhs: Tensor) -> Tensor:
        """torch's own, by the inverse's roles."""
        if role == "grad_weight":
            lhs, rhs = rhs, lhs
        return self.inverse.native(_SWAPPED[role], lhs, rhs)


def transposed_size(window: Window, size: Sequence[int], output_padding: Sequence[int]) -> Sizes:
    """Spatial size of y for that of x: (n - 1) stride - padding + span + output_padding + 1 along each axis."""
    return tuple(
        (n - 1) * window.stride[i]
        - window.before[i]
        - window.after[i]
        + window.span[i]
        + output_padding[i]
        + 1
        for i, n in enumerate(size)
    )


@bills_itself
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    output_padding: Sequence[int],
    spec: OpSpec,
    at: CallSite = CallSite(),
) -> Tensor:
    """The emulated `torch.nn.functional.conv_transpose1d`, `2d` or `3d`, by the window's number of axes.

    Args:
        x: Floating point [N, C, *size] or [C, *size]; computed in float32, the result has x's dtype.
        weight: [C, O/groups, *kernel].
        bias: [O] or None; added in float32.
        window: The inverse convolution's geometry, which is what torch's arguments mean.
        output_padding: Further positions at the end of each axis of y.
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Returns:
        [N, O, *output size] or [O, *output size].

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: Shapes that don't fit, or a scale that varies along a GEMM's reduction.
        NotANumberError: NaN in an operand.
    """
    check_floating(x, at.layer)
    axes = window.axes
    if x.ndim not in (axes + 1, axes + 2) or x.shape[-axes - 1] != weight.shape[0]:
        raise ValueError(
            f"layer {at.layer!r} takes {weight.shape[0]} channels before {axes} spatial axes for weight "
            f"{list(weight.shape)}, got {list(x.shape)}"
        )
    batched = x.ndim == axes + 2
    batch = x if batched else x[None]
    size = transposed_size(window, batch.shape[2:], output_padding)
    if min(size) < 1:
        raise ValueError(f"layer {at.layer!r}: input {list(x.shape)} gives an output of size {list(size)}")
    y_shape = (batch.shape[0], weight.shape[1] * window.groups, *size)
    inverse = ConvContraction(x_shape=y_shape, w_shape=tuple(weight.shape), window=window)
    if inverse.output_size != tuple(batch.shape[2:]):
        # torch also takes one that is smaller than the dilation alone; no convolution takes that y to x's size.
        raise ValueError(
            f"layer {at.layer!r}: output_padding {tuple(output_padding)} must be smaller than the stride "
            f"{window.stride} along every axis"
        )
    y = emulated(batch, weight, TransposedConvContraction(inverse=inverse), spec, at)
    y = add_bias(y, bias, axes, at.layer)
    return (y if batched else y[0]).to(x.dtype)
