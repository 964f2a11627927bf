"""Where two recorded stretches of training part: the first GEMM, the first operand or sum, the first element.

GEMMs are compared in the order in which they ran; of each GEMM first the left operand, then the right one, then
what left the accumulators, then the result. So the first difference found is a cause and not a consequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lowbit_sim.study.recordings import RecordedGemm


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first place where two runs part.

    Attributes:
        step: The training step, from 0.
        gemm: The GEMM's number within the step, from 0.
        layer: Module path.
        role: Which of the layer's GEMMs.
        what: "lhs", "rhs", "sum" (what left the accumulators), "result", or "order" (other GEMMs ran).
        group: Which of the role's matrices; 0 for a tensor.
        element: Index of the first differing element in row-major order; empty for "order".
        values: The two values there, scales applied; None where a scale for each row or column does not belong to
            single elements of the layout, and for "order".
        codes: The two codes or accumulators there; None for real tensors.
        differing: How many elements of the tensor differ.
        elements: How many it has.
        detail: Further words: which GEMMs ran, or which shapes differ.
    """

    step: int
    gemm: int
    layer: str
    role: str
    what: str
    group: int = 0
    element: tuple[int, ...] = ()
    values: tuple[float, float] | None = None
    codes: tuple[float, float] | None = None
    differing: int = 0
    elements: int = 0
    detail: str = ""


@dataclass(frozen=True)
class _Pair:
    """A tensor of both runs: what is compared, and the codes behind it where there are any."""

    what: str
    group: int
    values: tuple[Tensor, Tensor]
    codes: tuple[Tensor, Tensor] | None
    scaled: bool = True


def first_divergence(
    step: int, a: Sequence[RecordedGemm], b: Sequence[RecordedGemm], tolerance: float = 0.0
) -> Divergence | None:
    """The first difference between one step of two runs, or None.

    Args:
        step: The step's number, for the answer.
        a: GEMMs of the first run's step.
        b: GEMMs of the second run's.
        tolerance: Differences of up to this share of the tensor's largest magnitude pass; 0 asks for equal bits.
    """
    for number, (x, y) in enumerate(zip(a, b, strict=False)):
        found = _in_gemm(x, y, tolerance)
        if found is not None:
            return replace(found, step=step, gemm=number)
    if len(a) != len(b):
        longer = (a if len(a) > len(b) else b)[min(len(a), len(b))]
        return Divergence(
            step=step,
            gemm=min(len(a), len(b)),
            layer=longer.layer,
            role=longer.role,
            what="order",
            detail=f"A ran {len(a)} GEMMs and B {len(b)}",
        )
    return None


def _in_gemm(x: RecordedGemm, y: RecordedGemm, tolerance: float) -> Divergence | None:
    here = {"step": 0, "gemm": 0, "layer": x.layer, "role": x.role}
    if (x.layer, x.role, x.sample) != (y.layer, y.role, y.sample):
        detail = f"A ran {x.role} of {x.layer!r}, B {y.role} of {y.layer!r}"
        return Divergence(**here, what="order", detail=detail)
    for pair in _pairs(x, y):
        p, q = pair.values
        if p.shape != q.shape:
            detail = f"A has shape {list(p.shape)}, B {list(q.shape)}"
            return Divergence(**here, what=pair.what, group=pair.group, detail=detail)
        odd = _differ(p, q, tolerance)
        if bool(odd.any()):
            return _element(here, pair, odd)
    return None


def _differ(p: Tensor, q: Tensor, tolerance: float) -> Tensor:
    """Where two tensors differ; NaN equals NaN."""
    both_nan = torch.isnan(p) & torch.isnan(q)
    if tolerance == 0:  # equal bits: zeros have a sign
        return ((p != q) | (torch.signbit(p) != torch.signbit(q))) & ~both_nan
    largest = torch.maximum(p.abs().nan_to_num().max(), q.abs().nan_to_num().max()) if p.numel() else 0.0
    close = (p - q).abs() <= tolerance * largest
    return ~(close | (p == q) | both_nan)


def _element(here: dict, pair: _Pair, odd: Tensor) -> Divergence:
    index = tuple(int(i) for i in odd.nonzero()[0])
    values = tuple(float(t[index]) for t in pair.values) if pair.scaled else None
    codes = tuple(float(t[index]) for t in pair.codes) if pair.codes else None
    return Divergence(
        **here,
        what=pair.what,
        group=pair.group,
        element=index,
        values=(values[0], values[1]) if values else None,
        codes=(codes[0], codes[1]) if codes else None,
        differing=int(odd.sum()),
        elements=odd.numel(),
    )


def _pairs(x: RecordedGemm, y: RecordedGemm) -> Iterator[_Pair]:
    if not (x.is_native or y.is_native):
        yield from _operand_pairs("lhs", x, y)
        yield from _operand_pairs("rhs", x, y)
        if _formats(x) == _formats(y):  # sums in other units are not comparable
            for group, (p, q) in enumerate(zip(x.sums, y.sums, strict=False)):
                yield _Pair("sum", group, (p.double(), q.double()), (p, q))
    yield _Pair("result", 0, (x.result.double(), y.result.double()), None)


def _formats(gemm: RecordedGemm) -> tuple[str, ...]:
    return gemm.lhs_format, gemm.rhs_format, str(gemm.lhs_block or gemm.rhs_block)


def _operand_pairs(side: str, x: RecordedGemm, y: RecordedGemm) -> Iterator[_Pair]:
    """Scales where the formats agree, then what the matrices stand for, with the codes beside.

    Where scales can't be laid on the matrices, codes of one format are compared by themselves, and of two formats not
    at all: the results tell.
    """
    same_format = getattr(x, f"{side}_format") == getattr(y, f"{side}_format")
    if same_format:
        scales = zip(getattr(x, f"{side}_scale"), getattr(y, f"{side}_scale"), strict=False)
        for group, (p, q) in enumerate(scales):
            yield _Pair(f"{side} scale", group, (p.double(), q.double()), None)
    for group, (p, q) in enumerate(zip(getattr(x, side), getattr(y, side), strict=False)):
        left, right = _scaled(p, x, side, group), _scaled(q, y, side, group)
        if left is not None and right is not None:
            yield _Pair(side, group, (left, right), (p, q))
        elif same_format:
            yield _Pair(side, group, (p.double(), q.double()), (p, q), scaled=False)


def _scaled(matrix: Tensor, gemm: RecordedGemm, side: str, group: int) -> Tensor | None:
    """A matrix times its scale, float64; None for a scale that the layout spreads over the result in other ways."""
    scales = getattr(gemm, f"{side}_scale")
    matrix = matrix.double()
    if not scales:
        return matrix
    scale = scales[group if len(scales) == len(getattr(gemm, side)) else 0].double()
    if scale.numel() == 1:
        return matrix * scale.reshape(())
    axis = 1 if side == "lhs" else 0
    block: int = getattr(gemm, f"{side}_block")
    if block:
        return matrix * scale.repeat_interleave(block, dim=axis).narrow(axis, 0, matrix.shape[axis])
    of_rows = scale.ndim == 2 and scale.shape[axis] == 1 and scale.shape[1 - axis] == matrix.shape[1 - axis]
    return matrix * scale if of_rows else None
