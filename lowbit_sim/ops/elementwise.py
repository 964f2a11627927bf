"""The element-wise rule: what a module puts out, and the gradients that it takes and hands back, in a format.

    forward   y' = dequantise(Q_output(y))
    backward  dL/dy = dequantise(Q_grad_output(dL/dy'))   the sum over all that read y', else straight through
              dL/dx' = dequantise(Q_grad_input(dL/dx))

as a vector unit does that computes in float32 and writes its result to memory in a narrower format. In a format with
a saturating scale the gradient passes the clipped elements as well.

On record, a cast (a scale of 1, or any that is fixed) costs nothing of its own: the event that wrote the tensor
writes it in the narrower format and draws its random bits, and whoever reads it reads that format. Where that event
is not known, or the backward pass reads the unrounded result as well, the cast is a pass; so is every scale that must
be found first. A tensor of values of the format already is passed on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lowbit_sim.numerics.random import Stream
from lowbit_sim.ops.billing import bills_itself, stands_for
from lowbit_sim.ops.counts import count_operand
from lowbit_sim.ops.operand import SAMPLE_STRIDE, CallSite
from lowbit_sim.ops.quantize_events import Passed, emit_quantize
from lowbit_sim.ops.stored import element_bits, format_of, narrow, stored_in, written_by
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import FixedScale, LearnedScale, ScaleState
from lowbit_sim.trace import recording

ElementwiseRole = Literal["output", "grad_input", "grad_output"]

#: The random bits of an element-wise module: operands that no GEMM draws from. The i-th tensor of a module that has
#: several adds i times `SAMPLE_STRIDE`; the gradients that arrive come 128 of these after those that are handed back.
ELEMENTWISE_STREAMS: dict[ElementwiseRole, int] = {
    "output": 6,
    "grad_input": 7,
    "grad_output": 7 + 128 * SAMPLE_STRIDE,
}


@dataclass(frozen=True, kw_only=True)
class ElementwiseSpec:
    """The numerics of a module's tensors outside of its GEMMs; None leaves a tensor in float32.

    Args:
        output: The floating-point tensors that the module returns.
        grad_input: The gradients of its floating-point inputs, as it hands them back.
        grad_output: The gradients of those that it returns, as they arrive: summed over all that read the tensor.

    Raises:
        TypeError: Something that is neither a quantiser nor None.
        ValueError: A learned scale, which has no parameter here.
    """

    output: Quantizer | None = None
    grad_input: Quantizer | None = None
    grad_output: Quantizer | None = None

    def __post_init__(self) -> None:
        for name in ELEMENTWISE_STREAMS:
            quantizer = getattr(self, name)
            if quantizer is not None and not isinstance(quantizer, Quantizer):
                raise TypeError(f"{name} of an element-wise rule is a Quantizer or None, got {quantizer!r}")
            if quantizer is not None and isinstance(quantizer.scale, LearnedScale):
                raise ValueError(
                    f"{name} of an element-wise rule can't have a learned scale, got {quantizer}"
                )

    def __str__(self) -> str:
        named = ((name, getattr(self, name)) for name in ELEMENTWISE_STREAMS)
        return ", ".join(f"{name}: {q}" for name, q in named if q is not None) or "native"


@bills_itself
def round_output(y: Tensor, spec: ElementwiseSpec, at: CallSite, index: int = 0) -> Tensor:
    """A module's output in its format; the gradient passes straight through, rounded to its own format.

    Args:
        y: Floating point; the result has its dtype.
        spec: The numerics.
        at: Where it runs.
        index: Which of the module's output tensors.

    Raises:
        NotANumberError: NaN in y; the message names the module.
    """
    if spec.output is None and (spec.grad_output is None or not y.requires_grad):
        return y
    rounded = _StraightThrough.apply(y, spec, at, index)
    assert isinstance(rounded, Tensor)
    return rounded


def round_gradient(
    x: Tensor, spec: ElementwiseSpec, at: CallSite, index: int = 0, in_place: bool = False
) -> Tensor:
    """A module's input, whose gradient out of this module will be rounded to its format.

    Args:
        x: Floating point.
        spec: The numerics.
        at: Where it runs.
        index: Which of the module's input tensors.
        in_place: Whether the module overwrites x. Then the gradient of x's old value is rounded as a whole; it is
            this module's own unless something else has read x before.

    Returns:
        What the module is to read: x itself or an alias of it.
    """
    quantizer = spec.grad_input
    if quantizer is None or not (x.requires_grad and torch.is_grad_enabled()):
        return x
    # An alias: a hook on x itself would also see the gradients of x's other readers. (Overwriting an alias would
    # take the hook away.)
    alias = x if in_place else x.view_as(x)
    alias.register_hook(lambda g: _rounded(g, quantizer, "grad_input", at, index))
    return alias


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, spec: ElementwiseSpec, at: CallSite, index: int) -> Tensor:
        ctx.spec, ctx.at, ctx.index = spec, at, index
        # A tensor of its own either way: the module's result may be overwritten.
        return y.clone() if spec.output is None else _rounded(y, spec.output, "output", at, index)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        quantizer = ctx.spec.grad_output
        if quantizer is not None:
            g = _rounded(g, quantizer, "grad_output", ctx.at, ctx.index)
        return g, None, None, None


def _rounded(x: Tensor, quantizer: Quantizer, role: ElementwiseRole, at: CallSite, index: int) -> Tensor:
    operand = ELEMENTWISE_STREAMS[role] + SAMPLE_STRIDE * index
    start = at.shard.place(x.numel())[0] if at.shard is not None and quantizer.rounding.is_stochastic else 0
    stream = Stream(seed=at.seed, step=at.step, site=at.site, operand=operand, offset=start)
    state = at.states.setdefault((role, str(index)), ScaleState()) if quantizer.is_stateful else None
    try:
        quantized = quantizer(x, stream=stream, state=state, reduce_max=at.shard and at.shard.reduce_max)
    except NotANumberError as error:
        raise NotANumberError(f"module {at.layer!r}, {role}: {error}") from error
    rounded = quantized.dequantize().to(x.dtype)
    if recording():
        if _is_billed_with(x, quantized, quantizer, at.layer) and role == "output":
            stands_for(rounded, x)
        stored_in(rounded, quantizer)
    return rounded


def _is_billed_with(x: Tensor, quantized: QTensor, quantizer: Quantizer, layer: str) -> bool:
    """Put a rounding on record (see the module), and say whether it is part of what wrote x: one tensor is stored."""
    if _holds(x, quantizer):
        return True
    counts = None if x.is_meta else count_operand(x, quantized, quantizer)
    written = written_by(x)
    if written is not None and _is_cast(quantizer) and not written.read_unrounded:
        lost = (None, None) if counts is None else (counts.clipped, counts.underflowed)
        narrow(written, x, quantizer, *lost)
        return True
    passed = Passed(elements=x.numel(), bits=element_bits(x))
    emit_quantize(passed, quantized, quantizer, layer, counts)
    return False


def _is_cast(quantizer: Quantizer) -> bool:
    return isinstance(quantizer.scale, FixedScale) and not quantizer.block


def _holds(x: Tensor, quantizer: Quantizer) -> bool:
    """Whether x is known to hold values of the format, which any rounding leaves as they are."""
    held = format_of(x)
    return (
        held is not None and _is_cast(quantizer) and replace(held, rounding=quantizer.rounding) == quantizer
    )
