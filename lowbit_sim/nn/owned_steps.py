"""Emulated layers whose operands come on a grid already: a module owns the grid's step and tells the quantiser.

A training method may put a layer's input or weight on levels of its own, step times integer, before the operator
runs. The layer's quantiser of that operand is then one of the levels' format with `LearnedScale`, in every GEMM that
reads the tensor, and before each pass the step's owner writes the step into the operand's `ScaleState`: so the codes
that the GEMMs multiply are the method's own integers. Accumulators and the quantisers of gradients stay the layer's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.learned import STEPS
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scale_state import ScaleState

Operand = Literal["input", "weight"]


def own_quantizer(layer: EmulatedLayer, operand: Operand, quantizer: Quantizer) -> None:
    """Give a layer the quantiser of an operand, in place of its own, in the GEMMs that are emulated.

    Args:
        layer: A linear layer or a convolution.
        operand: Its input or its weight.
        quantizer: With `LearnedScale`.

    Raises:
        ValueError: A layer whose operands are transformed, one that learns the operand's step itself, or a MAC unit
            that can't multiply the format's values.
    """
    name = layer.emulation.layer
    if f"{operand}_step" in layer._parameters:
        raise ValueError(
            f'layer {name!r}: the scale of its {operand} is learned already (scale = "learned"): give its {operand} '
            "another scale, or leave the clip or the levels out"
        )
    spec = layer.emulation.op_spec
    for role, side in STEPS[f"{operand}_step"]:
        gemm: GemmSpec | None = getattr(spec, role)
        if gemm is not None:
            spec = replace(spec, **{role: _with_operand(gemm, side, quantizer, name, role)})
    layer.emulation = replace(layer.emulation, spec=spec)


def _with_operand(gemm: GemmSpec, side: str, quantizer: Quantizer, layer: str, role: str) -> GemmSpec:
    if gemm.transform is not None:
        raise ValueError(
            f"layer {layer!r}, {role}: {gemm.transform} mixes the operands' elements, so that they lie on no levels "
            "of their own: leave the transform out"
        )
    try:
        return replace(gemm, **{side: quantizer})
    except ValueError as error:
        raise ValueError(f"layer {layer!r}, {role}: {error}") from error


def set_step(layer: EmulatedLayer, operand: Operand, state: ScaleState) -> None:
    """Let the quantisers of an operand read their step out of a state from now on.

    Args:
        layer: The layer.
        operand: Its input or its weight.
        state: Holds the step, or will when the operator runs.
    """
    for place in STEPS[f"{operand}_step"]:
        layer.scale_states[place] = state


def as_step(value: Tensor, ndim: int) -> Tensor:
    """One number as the scale of a tensor of so many axes."""
    return value.detach().reshape((1,) * ndim)
