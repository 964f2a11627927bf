"""Layers with learned scales: the steps are parameters of the layer, and training adjusts them (LSQ).

A layer whose forward GEMM has `LearnedScale` on its input or its weight gets a parameter `input_step` or
`weight_step`, one number for each scale. The weight's starts at LSQ's first step, 2 mean|w| / sqrt(Q_P); the input's
is 0 until the first training batch gives it its own. Before the operator runs, input and weight pass `learned_step`,
whose backward pass holds LSQ's gradients; the operator then finds the same codes with the same step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.operand import FLOAT_BYTES, CallSite
from lowbit_sim.quant.granularity import PerTensor
from lowbit_sim.quant.learned_step import learned_step
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.quant.scaling import LearnedScale
from lowbit_sim.quant.stateful import first_step
from lowbit_sim.trace import VectorEvent, emit, recording

#: The parameter of each tensor that may have a learned scale, and the GEMMs that read the tensor.
STEPS = {
    "input_step": (("output", "lhs"), ("grad_weight", "rhs")),
    "weight_step": (("output", "rhs"), ("grad_input", "rhs")),
}


def learned_quantizer(spec: OpSpec, step: str) -> Quantizer | None:
    """The quantiser of the forward operand that a step belongs to, if its scale is learned."""
    side = STEPS[step][0][1]
    quantizer: Quantizer | None = getattr(spec.output, side) if spec.output else None
    return quantizer if quantizer is not None and isinstance(quantizer.scale, LearnedScale) else None


def check_learned(spec: OpSpec, layer: str) -> None:
    """Refuse learned scales that no step would be trained for.

    Raises:
        ValueError: A learned scale of a gradient, of a tensor whose forward operand has none or another
            quantiser, or of an input in another granularity than PerTensor.
    """
    for gemm, name in ((spec.grad_input, "grad_input"), (spec.grad_weight, "grad_weight")):
        if gemm is not None and isinstance(gemm.lhs.scale, LearnedScale):
            raise ValueError(
                f"layer {layer!r}: the scale of grad_output in {name} can't be learned: no loss sees it"
            )
    for step, places in STEPS.items():
        forward = learned_quantizer(spec, step)
        role, side = places[1]
        gemm: GemmSpec | None = getattr(spec, role)
        backward: Quantizer | None = getattr(gemm, side) if gemm else None
        if backward is not None and isinstance(backward.scale, LearnedScale) and backward != forward:
            raise ValueError(
                f"layer {layer!r}: {side} of {role} has a learned scale, so the same tensor in the output GEMM must "
                f"have an equal quantiser; it has {forward}"
            )
    x = learned_quantizer(spec, "input_step")
    if x is not None and x.granularity != PerTensor():
        raise ValueError(f"layer {layer!r}: a learned scale of an input is PerTensor(), got {x.granularity}")


def refuse_learned(spec: object, layer: str) -> None:
    """Refuse learned scales for a layer that has no parameters for them.

    Args:
        spec: An `OpSpec`, or another kind of numerics with GEMMs inside.
        layer: Module path.

    Raises:
        ValueError: Somewhere in the numerics is a learned scale.
    """
    if "LearnedScale" in repr(spec):
        raise ValueError(
            f"layer {layer!r} can't learn scales: only linear layers, convolutions and their transposes can"
        )


def add_steps(layer: EmulatedLayer) -> None:
    """Give a layer the parameters that its learned scales need.

    Raises:
        ValueError: As `check_learned`.
    """
    spec = layer.emulation.op_spec
    check_learned(spec, layer.emulation.layer)
    if learned_quantizer(spec, "input_step"):
        step = torch.zeros(1, dtype=torch.float32, device=layer.weight.device)  # type: ignore[arg-type]
        layer.register_parameter("input_step", nn.Parameter(step))
    weight = learned_quantizer(spec, "weight_step")
    if weight is not None:
        first = first_step(layer.weight.detach(), weight.element_format, weight.granularity)  # type: ignore[arg-type]
        layer.register_parameter("weight_step", nn.Parameter(first))


def remove_steps(layer: nn.Module) -> None:
    """Take the steps away again."""
    for step in STEPS:
        layer._parameters.pop(step, None)


def with_learned_steps(
    layer: EmulatedLayer, x: Tensor, weight: Tensor, at: CallSite
) -> tuple[Tensor, Tensor]:
    """Input and weight as the operator shall see them: on their learned grids, where they have one.

    Args:
        layer: The layer.
        x: Its input.
        weight: Its weight.
        at: The call, whose scale states are set to the steps.
    """
    return _on_grid(layer, "input_step", x, at), _on_grid(layer, "weight_step", weight, at)


def operand_axes(layer: nn.Module) -> int:
    """Axes of a layer's input as its operator quantises it: of a linear layer a matrix, else a batch of images."""
    return 2 if isinstance(layer, nn.Linear) else 2 + len(layer.kernel_size)  # type: ignore[arg-type]


@bills_itself
def _on_grid(layer: EmulatedLayer, name: str, x: Tensor, at: CallSite) -> Tensor:
    quantizer = learned_quantizer(layer.emulation.op_spec, name)
    if quantizer is None or name not in layer._parameters:  # whose step another module sets: `owned_steps`
        return x
    step: nn.Parameter = getattr(layer, name)
    if not step.is_meta:
        _check_step(layer, name, step, x, quantizer, at)
    y = learned_step(x, step, quantizer.element_format, granularity=quantizer.granularity)
    axes = operand_axes(layer) if name == "input_step" else x.ndim
    shape = (1,) * axes if step.numel() == 1 else tuple(step.shape)
    for place in STEPS[name]:
        at.states[place] = ScaleState(value=step.detach().reshape(shape), frozen=True)
    if recording() and y.requires_grad:
        _emit_step_gradient(y, step, at)
    return y.to(x.dtype)


def _check_step(
    layer: EmulatedLayer, name: str, step: nn.Parameter, x: Tensor, quantizer: Quantizer, at: CallSite
) -> None:
    """Give an input's step its first value where it has none.

    Raises:
        ValueError: A step that is still 0.
    """
    if name == "input_step" and not bool(step.detach()) and layer.training:
        with torch.no_grad():
            step.copy_(
                first_step(x.detach().to(torch.float32), quantizer.element_format, PerTensor()).reshape(1)
            )
    if not bool((step.detach() != 0).all()):
        raise ValueError(
            f"layer {at.layer!r}: {name} is 0: it gets its first value from a forward pass in training mode"
        )


def _emit_step_gradient(y: Tensor, step: Tensor, at: CallSite) -> None:
    """Bill the gradients: a pass over g and the kept x, which masks the one and sums the other for the step."""
    size = y.numel() * FLOAT_BYTES
    event = VectorEvent(
        kind="scale_reduction",
        elements=y.numel(),
        read_bytes=2 * size,
        write_bytes=size + step.numel() * FLOAT_BYTES,
        layer=at.layer,
    )
    y.register_hook(lambda _: emit(event))
