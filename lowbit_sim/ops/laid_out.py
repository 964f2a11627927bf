"""An operand's matrices as the array is fed, and what a machine quantises of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.ops.contraction import TENSORS, Contraction, Side
from lowbit_sim.ops.events import emit_transform
from lowbit_sim.ops.operand import CallSite, Operands, quantize_operand
from lowbit_sim.ops.quantize_events import Passed
from lowbit_sim.ops.stored import element_bits
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import Role


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """One operand of one GEMM as the array is fed.

    Attributes:
        multiplicands: Whole numbers for a `MacUnit`, float32 values for a `FloatMacUnit`; [M, K] or [K, N].
        block_scale: Scales that vary along K, [M, blocks] or [blocks, N]; None without blocks.
        scale: A scale for the rows or columns of the result, where it belongs to the matrix and not to the tensor.
    """

    multiplicands: Tensor
    block_scale: Tensor | None = None
    scale: Tensor | None = None


def lay_out(
    layout: Contraction,
    role: Role,
    spec: GemmSpec,
    lhs: Operands,
    rhs: Operands,
    sample: int,
    at: CallSite,
) -> tuple[list[LaidOut], list[LaidOut], list]:
    """Both operands' matrices, and what undoes the transform of each result."""
    sides: dict[Side, list[LaidOut]] = {}
    real: dict[Side, list[Tensor]] = {}
    both: tuple[tuple[Side, Operands], ...] = (("lhs", lhs), ("rhs", rhs))
    for side, operand in both:
        if operand.real is not None:
            real[side] = layout.matrices(role, side, operand.real)
        else:
            q = of_sample(operand, sample)
            check_reduction(q, layout.reduced(role, side), role, side, at.layer)
            sides[side] = [
                LaidOut(multiplicands=m) for m in layout.matrices(role, side, _multiplicands(q, spec))
            ]
    undo: list = [lambda result: result] * layout.count
    if spec.transform is not None:
        transformed = [spec.transform.forward(a, b) for a, b in zip(real["lhs"], real["rhs"], strict=True)]
        real = {"lhs": [t[0] for t in transformed], "rhs": [t[1] for t in transformed]}
        undo = [t[2] for t in transformed]
        emit_transform(real, role, at)
    for side, operand in both:
        if operand.real is not None:
            passed = _passed(layout, role, side, spec, real[side], operand.real)
            sides[side] = [
                _quantized_matrix(m, spec, role, side, at, sample, i, passed)
                for i, m in enumerate(real[side])
            ]
    return sides["lhs"], sides["rhs"], undo


def _passed(
    layout: Contraction, role: Role, side: Side, spec: GemmSpec, matrices: Sequence[Tensor], tensor: Tensor
) -> Passed:
    """What a machine quantises of each matrix of an operand, which are all laid out from one tensor.

    A block that holds the same elements wherever it occurs has one scale and becomes the same codes, so that each
    element is quantised once. Where blocks hold others in each window, or each copy draws random bits, every copy
    becomes codes of its own, and the matrix is what must be quantised. So it is after a transform, which mixes
    elements.
    """
    quantizer: Quantizer = getattr(spec, side)
    laid_out = matrices[0].numel() if matrices else 0
    once = min(laid_out, tensor.numel() // max(layout.count, 1))
    if spec.transform is not None:
        return Passed(elements=laid_out)
    together = layout.together(role, side)
    bits = element_bits(tensor)
    whole_blocks = together == layout.sizes(role)[2] or together % quantizer.block == 0
    if whole_blocks and not quantizer.rounding.is_stochastic:
        return Passed(elements=once, bits=bits)
    return Passed(elements=laid_out, copies=laid_out - once, bits=bits)


def _quantized_matrix(
    matrix: Tensor,
    spec: GemmSpec,
    role: Role,
    side: Side,
    at: CallSite,
    sample: int,
    index: int,
    passed: Passed,
) -> LaidOut:
    """Quantise a laid-out operand; its quantiser sees [M, K] or [N, K], the reduction last."""
    quantizer: Quantizer = getattr(spec, side)
    reduction_last = matrix if side == "lhs" else matrix.t()
    offset = index * matrix.numel()
    q = quantize_operand(reduction_last, quantizer, role, side, at, sample, offset=offset, passed=passed)
    scale = q.scale * unit_of(q, spec)
    if not q.block:
        check_reduction(q, [1], role, side, at.layer)
    if side == "rhs":
        return LaidOut(
            multiplicands=_multiplicands(q, spec).t(),
            block_scale=scale.t() if q.block else None,
            scale=None if q.block else scale.t(),
        )
    return LaidOut(
        multiplicands=_multiplicands(q, spec),
        block_scale=scale if q.block else None,
        scale=None if q.block else scale,
    )


def of_sample(operand: Operands, sample: int) -> QTensor:
    """The codes of one of several samples, which share those of an operand that has one entry."""
    return operand.quantized[min(sample, len(operand.quantized) - 1)]


def unit_of(q: QTensor, spec: GemmSpec) -> float:
    """The value of a multiplicand's 1: integers count in units of the format, float32 values do not."""
    return (q.element_format.unit or 1.0) if isinstance(spec.mac, MacUnit) else 1.0


def _multiplicands(q: QTensor, spec: GemmSpec) -> Tensor:
    return q.integers() if isinstance(spec.mac, MacUnit) else q.values()


def check_reduction(q: QTensor, axes: Sequence[int], role: Role, side: Side, layer: str) -> None:
    """Refuse scales (or zero points) that vary along the axes a GEMM sums over.

    Raises:
        ValueError: Naming the layer, the tensor, the axis and what would be right.
    """
    for axis in axes:
        if q.scale.shape[axis] != 1:
            raise ValueError(
                f"layer {layer!r}: {TENSORS[role, side]} has a scale for each index of axis {axis}, but the "
                f"{role} GEMM sums over that axis, so one scale must hold along it: use PerTensor() or another axis"
            )
