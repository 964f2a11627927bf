"""The emulated einsum of two tensors, where it is a product of matrices.

An index is one of four kinds, by where it stands:

| kind    | first | second | result | becomes                   |
|---------|-------|--------|--------|---------------------------|
| batch   | yes   | yes    | yes    | a leading axis            |
| summed  | yes   | yes    | no     | K, in the first's order   |
| row     | yes   | no     | yes    | M                         |
| column  | no    | yes    | yes    | N                         |
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.linear import matmul
from lowbit_sim.ops.operand import CallSite


@bills_itself
def einsum(equation: str, operands: Sequence[Tensor], spec: OpSpec, at: CallSite = CallSite()) -> Tensor:
    """The emulated `torch.einsum` of two operands.

    Args:
        equation: As torch's, without "...".
        operands: Two floating-point tensors; the first is the input, the second the weight in `spec`.
        spec: The numerics of the three GEMMs.
        at: Where it runs.

    Raises:
        ValueError: An equation that is no product of matrices: more or fewer than two operands, "...", an index
            twice in one operand, or one that only one operand has and the result has not; and what `matmul` raises.
    """
    first, second, result = _parse(equation, operands, at)
    a, b = operands
    sizes = dict(zip(first, a.shape, strict=True)) | dict(zip(second, b.shape, strict=True))
    batch = [i for i in first if i in second and i in result]
    summed = [i for i in first if i in second and i not in result]
    rows = [i for i in first if i not in second]
    columns = [i for i in second if i not in first]

    def arranged(x: Tensor, indices: str, groups: Sequence[Sequence[str]]) -> Tensor:
        order = [*batch, *(i for group in groups for i in group)]
        shape = [sizes[i] for i in batch] + [math.prod(sizes[i] for i in group) for group in groups]
        return x.permute([indices.index(i) for i in order]).reshape(shape)

    y = matmul(
        arranged(a, first, (rows, summed)), arranged(b, second, (columns, summed)).mT, spec, at
    )  # [*batch, M, N]
    order = [*batch, *rows, *columns]
    return y.reshape([sizes[i] for i in order]).permute([order.index(i) for i in result])


def _parse(equation: str, operands: Sequence[Tensor], at: CallSite) -> tuple[str, str, str]:
    """The indices of the operands and of the result."""

    def refuse(why: str) -> ValueError:
        return ValueError(f"layer {at.layer!r}: einsum {equation!r} can't be emulated: {why}")

    if not isinstance(equation, str):
        raise refuse("its indices are lists; write them as letters")
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != 2 or len(operands) != 2:
        raise refuse(f"it has {len(operands)} operands, a product of matrices has 2")
    if "." in equation:
        raise refuse('"..." is not known; write the indices out')
    first, second = parts
    result = right if arrow else "".join(sorted(i for i in {*left} - {","} if left.count(i) == 1))
    for indices, x in zip((first, second), operands, strict=True):
        if len(set(indices)) < len(indices) or len(indices) != x.ndim:
            raise refuse(f"{indices!r} must name each axis of {list(x.shape)} once")
    alone = {i for i in first + second if (i in first) != (i in second) and i not in result}
    if alone or len(set(result)) < len(result) or not set(result) <= {*first, *second}:
        raise refuse(
            f"indices {sorted(alone)} are summed over one operand alone" if alone else f"result {result!r}"
        )
    shared = [
        (i, operands[0].shape[first.index(i)], operands[1].shape[second.index(i)])
        for i in first
        if i in second
    ]
    for i, m, n in shared:
        if m != n:
            raise refuse(f"index {i!r} is {m} in one operand and {n} in the other")
    return first, second, result
