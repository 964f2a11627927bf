"""From a layer's tensors to the operands of its GEMMs and back, with every piece of work put on record.

Operators (`linear.py`, `conv.py`) say which tensor meets which and in what order k runs; what they share is
here: quantise an operand, multiply two code matrices, scale the accumulators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.random import Stream
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import reduces
from lowbit_sim.trace import ConvGeometry, GemmEvent, Operand, Role, VectorEvent, emit, recording

_FLOAT_BYTES = 4

#: Each operand of each GEMM draws its own random bits.
_OPERAND_STREAMS = {
    ("output", "lhs"): 0,
    ("output", "rhs"): 1,
    ("grad_input", "lhs"): 2,
    ("grad_input", "rhs"): 3,
    ("grad_weight", "lhs"): 4,
    ("grad_weight", "rhs"): 5,
}

#: The layer's tensor behind each operand, for messages.
_TENSORS = {
    ("output", "lhs"): "input",
    ("output", "rhs"): "weight",
    ("grad_input", "lhs"): "grad_output",
    ("grad_input", "rhs"): "weight",
    ("grad_weight", "lhs"): "grad_output",
    ("grad_weight", "rhs"): "input",
}


@dataclass(frozen=True, kw_only=True)
class CallSite:
    """Where an operator runs: it names the layer in events and messages and addresses the random bits.

    Args:
        layer: Module path.
        seed: The run's seed.
        step: How many training steps the layer has made.
        site: The layer's number in the model.
    """

    layer: str = ""
    seed: int = 0
    step: int = 0
    site: int = 0


def quantize_operand(x: Tensor, quantizer: Quantizer, role: Role, side: str, at: CallSite) -> QTensor:
    """Quantise one operand of one GEMM.

    Raises:
        NotANumberError: x holds NaN; the message names the layer, the GEMM and the tensor.
    """
    stream = Stream(seed=at.seed, step=at.step, site=at.site, operand=_OPERAND_STREAMS[role, side])
    try:
        quantized = quantizer(x, stream=stream)
    except NotANumberError as error:
        raise NotANumberError(f"layer {at.layer!r}, {_TENSORS[role, side]} of {role}: {error}") from error
    if recording():
        _emit_quantize(x.numel(), quantizer, at.layer)
    return quantized


def _emit_quantize(elements: int, quantizer: Quantizer, layer: str) -> None:
    def vector(kind: str, read: int, write: int, random_bits: int = 0) -> None:
        emit(
            VectorEvent(
                kind=kind,
                elements=elements,
                read_bytes=read,
                write_bytes=write,
                layer=layer,
                random_bits=random_bits,
            )
        )

    read = elements * _FLOAT_BYTES
    if reduces(quantizer.scale):
        vector("scale_reduction", read, 0)
    if quantizer.rounding.is_stochastic:
        vector("random_bits", 0, 0, elements * quantizer.rounding.random_bits)
    vector("quantize", read, math.ceil(elements * quantizer.format.bits / 8))


def kept(q: QTensor | None, forward: GemmSpec | None, side: str, backward: GemmSpec | None) -> QTensor | None:
    """The forward GEMM's codes of a tensor, if a backward GEMM would quantise the tensor to the same codes.

    Quantising is a pure function of the tensor unless it rounds stochastically, so keeping the codes saves
    work and memory and changes no bit.

    Args:
        q: The forward GEMM's operand.
        forward: The forward GEMM.
        side: "lhs" or "rhs", the operand's side there; in both backward GEMMs such a tensor is on the right.
        backward: The backward GEMM that reads the tensor again.
    """
    if forward is None or backward is None:
        return None
    quantizer: Quantizer = getattr(forward, side)
    return q if quantizer == backward.rhs and not quantizer.rounding.is_stochastic else None


def gradient_codes(
    g: Tensor, spec: OpSpec, needed: Sequence[bool], at: CallSite
) -> tuple[QTensor | None, QTensor | None]:
    """The codes of grad_output for the grad_input and the grad_weight GEMM.

    Quantised once where both would find the same codes (see `kept`).

    Args:
        g: grad_output, float32.
        spec: The layer's numerics.
        needed: Whether the gradient of the input and that of the weight are asked for.
        at: Where it runs.

    Returns:
        For each GEMM its codes, or None if it is native or not needed.
    """
    for_input = for_weight = None
    if needed[0] and spec.grad_input is not None:
        for_input = quantize_operand(g, spec.grad_input.lhs, "grad_input", "lhs", at)
    if needed[1] and spec.grad_weight is not None:
        quantizer = spec.grad_weight.lhs
        same = spec.grad_input is not None and quantizer == spec.grad_input.lhs
        if for_input is not None and same and not quantizer.rounding.is_stochastic:
            for_weight = for_input
        else:
            for_weight = quantize_operand(g, quantizer, "grad_weight", "lhs", at)
    return for_input, for_weight


def check_reduction(q: QTensor, axes: Sequence[int], role: Role, side: str, layer: str) -> None:
    """Refuse scales (or zero points) that vary along the axes a GEMM sums over.

    Raises:
        ValueError: Naming the layer, the tensor, the axis and what would be right.
    """
    for axis in axes:
        if q.scale.shape[axis] != 1:
            raise ValueError(
                f"layer {layer!r}: {_TENSORS[role, side]} has a scale for each index of axis {axis}, but the "
                f"{role} GEMM sums over that axis, so one scale must hold along it: use PerTensor() or another axis"
            )


def accumulate(
    lhs: Sequence[Tensor],
    rhs: Sequence[Tensor],
    spec: GemmSpec,
    role: Role,
    at: CallSite,
    conv: ConvGeometry | None = None,
) -> list[Tensor]:
    """The accumulators of one GEMM, or of one for each group of a convolution.

    Args:
        lhs: Integer matrices [M, K], one for each group.
        rhs: Integer matrices [K, N], one for each group.
        spec: Formats and MAC unit.
        role: Which of the layer's GEMMs.
        at: Where it runs.
        conv: The convolution behind it.

    Returns:
        Integer matrices [M, N], one for each group.
    """
    # Counting changes no value, but a wrapping accumulator that need not count has a faster path.
    counting = recording()
    results = [run_gemm(a, b, spec.mac, count_overflows=counting) for a, b in zip(lhs, rhs, strict=True)]
    if counting:
        (rows, reduction), columns = lhs[0].shape, rhs[0].shape[1]
        event = gemm_event(role, (rows, columns, reduction), spec, at.layer, len(results), conv)
        emit(
            replace(
                event,
                additions=sum(r.additions for r in results),
                # Asked to count, every path that runs does.
                overflows=sum(r.overflows or 0 for r in results),
                backend="+".join(sorted({r.backend for r in results})),
            )
        )
        emit(_dequantize_event(sum(r.values.numel() for r in results), spec.mac, at.layer))
    return [r.values for r in results]


def _dequantize_event(elements: int, mac: MacUnit, layer: str) -> VectorEvent:
    return VectorEvent(
        kind="dequantize",
        elements=elements,
        read_bytes=math.ceil(elements * mac.result_bits / 8),
        write_bytes=elements * _FLOAT_BYTES,
        layer=layer,
    )


def gemm_event(
    role: Role,
    sizes: tuple[int, int, int],
    spec: GemmSpec | None,
    layer: str,
    count: int,
    conv: ConvGeometry | None = None,
) -> GemmEvent:
    """The event of `count` GEMMs of sizes (M, N, K); without a spec, of native float32 ones."""
    rows, columns, reduction = sizes
    native = Operand(format="fp32", bits=32)
    mac = spec.mac if spec else None
    return GemmEvent(
        role=role,
        M=rows,
        N=columns,
        K=reduction,
        lhs=Operand(format=str(spec.lhs.format), bits=spec.lhs.format.bits) if spec else native,
        rhs=Operand(format=str(spec.rhs.format), bits=spec.rhs.format.bits) if spec else native,
        accumulator_bits=mac.accumulator_bits if mac else 32,
        overflow=mac.overflow if mac else "float",
        chunk=mac.chunk if mac else 0,
        outer_bits=mac.result_bits if mac else 32,
        layer=layer,
        count=count,
        backend="" if spec else "native",
        conv=conv,
    )


def rescale(accumulators: Tensor, lhs_scale: Tensor, rhs_scale: Tensor) -> Tensor:
    """fp32(acc) * fp32(lhs_scale * rhs_scale): one conversion, one multiply; scales broadcast to the result."""
    return accumulators.to(torch.float32) * (lhs_scale * rhs_scale)
