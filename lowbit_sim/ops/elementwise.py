"""The element-wise rule: what a module without GEMMs puts out, and the gradient it hands back, in a format.

    forward   y' = dequantise(Q_output(y))
    backward  dL/dy = dL/dy'  (straight through);   dL/dx' = dequantise(Q_grad_input(dL/dx))

as a vector unit does that computes in float32 and writes its result to memory in a narrower format. In a format with
a saturating scale the gradient passes the clipped elements as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lowbit_sim.numerics.random import Stream
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.counts import count_operand
from lowbit_sim.ops.operand import SAMPLE_STRIDE, CallSite, emit_quantize
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import LearnedScale, ScaleState
from lowbit_sim.trace import recording

ElementwiseRole = Literal["output", "grad_input"]

#: The random bits of an element-wise module: operands that no GEMM draws from. The i-th tensor of a module that has
#: several adds i times `SAMPLE_STRIDE`.
ELEMENTWISE_STREAMS: dict[ElementwiseRole, int] = {"output": 6, "grad_input": 7}


@dataclass(frozen=True, kw_only=True)
class ElementwiseSpec:
    """The numerics of a module without GEMMs; None leaves a tensor in float32.

    Args:
        output: The floating-point tensors that the module returns.
        grad_input: The gradients of its floating-point inputs.

    Raises:
        TypeError: Something that is neither a quantiser nor None.
        ValueError: A learned scale, which has no parameter here.
    """

    output: Quantizer | None = None
    grad_input: Quantizer | None = None

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
    """A module's output in its format; the gradient passes straight through.

    Args:
        y: Floating point; the result has its dtype.
        spec: The numerics.
        at: Where it runs.
        index: Which of the module's output tensors.

    Raises:
        NotANumberError: NaN in y; the message names the module.
    """
    if spec.output is None:
        return y
    rounded = _StraightThrough.apply(y, spec.output, at, index)
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
    def forward(ctx: Any, y: Tensor, quantizer: Quantizer, at: CallSite, index: int) -> Tensor:
        return _rounded(y, quantizer, "output", at, index)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
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
    if recording():
        counts = None if x.is_meta else count_operand(x, quantized, quantizer)
        emit_quantize(x.numel(), quantized, quantizer, at.layer, counts)
    return quantized.dequantize().to(x.dtype)
