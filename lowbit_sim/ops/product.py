"""One GEMM of an operator: lay the operands out (`laid_out`), multiply, scale the sums, and put it on record."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit_sim.arith.batched import run_gemms
from lowbit_sim.arith.block_gemm import run_block_gemm
from lowbit_sim.arith.bounds import range_proof
from lowbit_sim.arith.float_gemm import run_float_gemms
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.arith.shape_only import shape_only
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.ops.backend import forced_backend
from lowbit_sim.ops.capture import CapturedGemm, capturing, keep, present
from lowbit_sim.ops.contraction import Contraction, Side
from lowbit_sim.ops.events import emit_gemm
from lowbit_sim.ops.laid_out import LaidOut, check_reduction, lay_out, of_sample, unit_of
from lowbit_sim.ops.operand import ACCUMULATOR_STREAMS, CallSite, Operands, stream_at
from lowbit_sim.ops.proven import codes_of
from lowbit_sim.ops.stored import Written, wrote
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.trace import Role, recording

#: Training steps from one that counts the overflows of wrapping accumulators that no proof covers to the next.
_WRAPS_COUNTED_EVERY = 256


def product(
    layout: Contraction,
    role: Role,
    spec: GemmSpec,
    lhs: Operands,
    rhs: Operands,
    at: CallSite,
    kept_size: int = 0,
) -> Tensor:
    """One emulated GEMM of an operator, for all its groups and samples.

    Args:
        layout: The operator's layout.
        role: Which of its GEMMs.
        spec: Quantisers and MAC unit.
        lhs: The left operand.
        rhs: The right operand.
        at: Where it runs.
        kept_size: Bytes of the operands that stay in memory for the backward pass, for the trace.

    Returns:
        The result tensor, float32: fp32(sums) * fp32(lhs scale * rhs scale); the mean over samples is their sum in
        order times fp32(1 / samples).

    Raises:
        ValueError: A scale (or zero point) that varies along the axes that the GEMM sums over.
    """
    total = _sample(layout, role, spec, lhs, rhs, 0, at, kept_size)
    for sample in range(1, spec.samples):
        total = total + _sample(layout, role, spec, lhs, rhs, sample, at)
    if spec.samples == 1:
        return total
    return total * (1.0 / torch.tensor(float(spec.samples), dtype=torch.float32, device="cpu"))


def _sample(
    layout: Contraction,
    role: Role,
    spec: GemmSpec,
    lhs: Operands,
    rhs: Operands,
    sample: int,
    at: CallSite,
    kept_size: int = 0,
) -> Tensor:
    if (whole := _whole(layout, role, spec, lhs, rhs, at)) is not None:
        return whole
    left, right, undo = lay_out(layout, role, spec, lhs, rhs, sample, at)
    results = _multiply(spec, left, right, role, sample, at)
    if at.tallies is not None and all(r.overflows is not None for r in results):
        at.tally(role).add_results(results)
    conversion = emit_gemm(layout, role, spec, results, at, kept_size) if recording() else None
    parts = [r.values for r in results]
    if left and (left[0].scale is not None or spec.block):
        # The matrices' own scales: they can't wait until the tensor is assembled.
        parts = [_scaled(p, a, b) for p, a, b in zip(parts, left, right, strict=True)]
    parts = [u(p) for u, p in zip(undo, parts, strict=True)]
    y = layout.assemble(role, parts).to(torch.float32)
    scales = [
        _tensor_scale(layout, role, "lhs", lhs, sample, spec),
        _tensor_scale(layout, role, "rhs", rhs, sample, spec),
    ]
    y = _times(y, scales)
    if conversion is not None:
        wrote(Written(conversion), y)
    if capturing():
        _capture(layout, role, spec, sample, (left, right), scales, results, y, at)
    return y


def _whole(
    layout: Contraction, role: Role, spec: GemmSpec, lhs: Operands, rhs: Operands, at: CallSite
) -> Tensor | None:
    """The result of a GEMM whose sums the formats alone bound, where the layout has a faster way than matrices."""
    codes = codes_of(spec, lhs, rhs, layout.sizes(role)[2])
    if codes is None:
        return None
    result = layout.scaled_sums(role, *codes, _proven_scale(layout, role, lhs, rhs, at))
    if result is not None and at.tallies is not None:
        _tally_none(layout, role, spec, at)
    return result


def _proven_scale(layout: Contraction, role: Role, lhs: Operands, rhs: Operands, at: CallSite) -> Tensor:
    """lhs scale * rhs scale of integers, laid out to broadcast against the result."""
    a, b = lhs.quantized[0], rhs.quantized[0]
    if a.scale.numel() == b.scale.numel() == 1:
        return a.scale * b.scale  # holds along every axis, in any layout
    both: tuple[tuple[Side, QTensor], ...] = (("lhs", a), ("rhs", b))
    for side, q in both:
        check_reduction(q, layout.reduced(role, side), role, side, at.layer)
    left, right = (layout.scale(role, side, q.expanded_scale()) for side, q in both)
    return left * right


def _tally_none(layout: Contraction, role: Role, spec: GemmSpec, at: CallSite) -> None:
    """Count additions without an overflow, wherever the general way would know of them."""
    assert isinstance(spec.mac, MacUnit)
    rows, columns, reduction = layout.sizes(role)
    # Where nobody asks for them, its proof takes any int8 codes.
    if _counts_overflows(spec, at) or range_proof(spec.mac, reduction, 128, 128):
        at.tally(role).add(layout.count * rows * columns * spec.mac.additions(reduction), overflows=0)


def _times(values: Tensor, scales: Sequence[Tensor | None]) -> Tensor:
    """values * fp32(lhs scale * rhs scale), of those there are."""
    known = present(scales)
    return values * math.prod(known[1:], start=known[0]) if known else values


def _capture(
    layout: Contraction,
    role: Role,
    spec: GemmSpec,
    sample: int,
    sides: tuple[list[LaidOut], list[LaidOut]],
    scales: Sequence[Tensor | None],
    results: Sequence[GemmResult],
    y: Tensor,
    at: CallSite,
) -> None:
    own = [
        present([s for m in side for s in (m.block_scale, m.scale)] + [tensor_scale])
        for side, tensor_scale in zip(sides, scales, strict=True)
    ]
    left, right = (tuple(m.multiplicands for m in side) for side in sides)
    keep(
        CapturedGemm(
            layer=at.layer,
            role=role,
            spec=spec,
            sample=sample,
            lhs=left,
            rhs=right,
            lhs_scale=own[0],
            rhs_scale=own[1],
            sums=tuple(r.values for r in results),
            result=y.detach().clone(),  # a module may go on in place
        )
    )


def _scaled(part: Tensor, a: LaidOut, b: LaidOut) -> Tensor:
    return _times(part.to(torch.float32), [a.scale, b.scale])


def _tensor_scale(
    layout: Contraction, role: Role, side: Side, operand: Operands, sample: int, spec: GemmSpec
) -> Tensor | None:
    if operand.real is not None:
        return None
    q = of_sample(operand, sample)
    scale, unit = layout.scale(role, side, q.expanded_scale()), unit_of(q, spec)
    return scale if unit == 1.0 else scale * unit


def _counts_overflows(spec: GemmSpec, at: CallSite) -> bool:
    """Whether overflows must be counted: no value changes, but a wrapping accumulator has a faster path without."""
    if recording():
        return True
    wraps = isinstance(spec.mac, MacUnit) and spec.mac.overflow == "wrap"
    return at.tallies is not None and (not wraps or at.step % _WRAPS_COUNTED_EVERY == 0)


def _multiply(
    spec: GemmSpec, left: list[LaidOut], right: list[LaidOut], role: Role, sample: int, at: CallSite
) -> list[GemmResult]:
    if any(m.multiplicands.is_meta for m in left):
        return [shape_only(spec, a.multiplicands, b.multiplicands) for a, b in zip(left, right, strict=True)]
    counting = _counts_overflows(spec, at)
    if isinstance(spec.mac, MacUnit) and not spec.block:
        lhs, rhs = ([m.multiplicands for m in side] for side in (left, right))
        return run_gemms(lhs, rhs, spec.mac, backend=forced_backend(), count_overflows=counting)
    if isinstance(spec.mac, FloatMacUnit) and not spec.block:
        return _multiply_together(spec, spec.mac, left, right, role, sample, at, counting)
    pairs = enumerate(zip(left, right, strict=True))
    return [_multiply_blocks(spec, a, b, i, role, sample, at, counting) for i, (a, b) in pairs]


#: Results of other groups draw other bits: there is room for 2^32 additions of each.
_GROUP_DRAWS = 1 << 40


def _multiply_together(
    spec: GemmSpec,
    mac: FloatMacUnit,
    left: list[LaidOut],
    right: list[LaidOut],
    role: Role,
    sample: int,
    at: CallSite,
    counting: bool,
) -> list[GemmResult]:
    """GEMMs in which the products are floats."""
    lhs, rhs = ([m.multiplicands for m in side] for side in (left, right))
    offset = _slice_offset(spec, lhs[0], rhs[0], role, at)
    stream = stream_at(at, ACCUMULATOR_STREAMS[role], sample, offset=offset)
    backend = forced_backend()
    return run_float_gemms(
        lhs, rhs, mac, stream=stream, apart=_GROUP_DRAWS, backend=backend, count_overflows=counting
    )


def _multiply_blocks(
    spec: GemmSpec, a: LaidOut, b: LaidOut, index: int, role: Role, sample: int, at: CallSite, counting: bool
) -> GemmResult:
    """One GEMM of scaled blocks, whose sums are added as floats."""
    x, w = a.multiplicands, b.multiplicands
    offset = index * _GROUP_DRAWS + _slice_offset(spec, x, w, role, at)
    return run_block_gemm(
        x,
        w,
        a.block_scale,
        b.block_scale,
        spec.block,
        spec.mac,
        spec.across,
        stream=stream_at(at, ACCUMULATOR_STREAMS[role], sample, offset=offset),
        backend=forced_backend(),
        count_overflows=counting,
    )


def _slice_offset(spec: GemmSpec, x: Tensor, w: Tensor, role: Role, at: CallSite) -> int:
    """Where the random bits of a stochastic accumulator start whose batch is spread over processes."""
    if at.shard is None or not isinstance(spec.mac, FloatMacUnit) or not spec.mac.rounding.is_stochastic:
        return 0
    if spec.block or role == "grad_weight" or at.batched_weight:
        return at.shard.own_bits()
    return at.shard.place(x.shape[0])[0] * w.shape[1] * spec.mac.additions(x.shape[1])
