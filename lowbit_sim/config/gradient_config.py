"""Published gradient quantisers and transforms by name: `gradient = "luq"`, `transform = "householder"`.

A gradient quantiser gives the left operand of both backward GEMMs, where the output's gradient stands. Those that
scale each sample apart do so in the grad_input GEMM only: grad_weight sums over the samples, so that its operand
has one scale, as in StatQuant (PTQ for the gradient of the weight).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny

from lowbit_sim.arith.spec import MAX_SAMPLES
from lowbit_sim.config.tables import Choice, Strict
from lowbit_sim.quant.codebook import grid_codebook
from lowbit_sim.quant.distributions import magnitudes
from lowbit_sim.quant.gradient import codebook, dorefa, luq, statquant, two_phase, unified_int8
from lowbit_sim.quant.granularity import PerTensor
from lowbit_sim.quant.householder import HouseholderTransform
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.transforms import HadamardTransform, Transform


@dataclass(frozen=True, kw_only=True)
class GradientOperands:
    """The left operands of the backward GEMMs.

    Attributes:
        grad_input, grad_weight: Their quantisers.
        transform: Transform of the grad_input GEMM, if the method has one.
    """

    grad_input: Quantizer
    grad_weight: Quantizer
    transform: Transform | None = None


def _luq(exponent_bits: int = 3, random_bits: int = 8, momentum: float | None = None) -> GradientOperands:
    both = luq.luq(exponent_bits, random_bits=random_bits, momentum=momentum)
    return GradientOperands(grad_input=both, grad_weight=both)


@functools.cache  # a codebook of many values takes its time to check
def _dorefa(bits: int = 8, random_bits: int = 8) -> GradientOperands:
    return GradientOperands(
        grad_input=dorefa.dorefa_gradient(bits, random_bits=random_bits),
        grad_weight=dorefa.dorefa_gradient(bits, random_bits=random_bits, granularity=PerTensor()),
    )


def _ptq(bits: int = 8, random_bits: int = 8) -> GradientOperands:
    both = statquant.ptq(bits, random_bits=random_bits)
    return GradientOperands(grad_input=both, grad_weight=both)


def _psq(bits: int = 8, random_bits: int = 8) -> GradientOperands:
    return GradientOperands(
        grad_input=statquant.psq(bits, random_bits=random_bits),
        grad_weight=statquant.ptq(bits, random_bits=random_bits),
    )


def _bhq(bits: int = 8, random_bits: int = 8) -> GradientOperands:
    transform, quantizer = statquant.bhq(bits, random_bits=random_bits)
    return GradientOperands(
        grad_input=quantizer,
        grad_weight=statquant.ptq(bits, random_bits=random_bits),
        transform=transform,
    )


def _unified_int8(bits: int = 8, period: int = 1, random_bits: int = 8) -> GradientOperands:
    both = unified_int8.direction_sensitive(bits, period=period, random_bits=random_bits)
    return GradientOperands(grad_input=both, grad_weight=both)


def _two_phase_fp4() -> GradientOperands:
    phases = two_phase.two_phase_fp4()
    return GradientOperands(grad_input=phases.grad_input, grad_weight=phases.grad_weight)


def _codebook(values: list[float], top: float | None = None, random_bits: int = 8) -> GradientOperands:
    both = codebook.codebook_gradient(values, top=top, random_bits=random_bits)
    return GradientOperands(grad_input=both, grad_weight=both)


@functools.cache
def _fitted_codebook(
    distribution: str = "normal",
    spread: float | None = None,
    elements: int = 65536,
    levels: int = 15,
    value_bits: int = 8,
    random_bits: int = 8,
) -> GradientOperands:
    samples = magnitudes(distribution, spread=spread, elements=elements)
    fitted = grid_codebook(samples, levels, value_bits=value_bits, stochastic=random_bits > 0)
    both = codebook.codebook_gradient(fitted.values, top=fitted.top, random_bits=random_bits)
    return GradientOperands(grad_input=both, grad_weight=both)


_GRADIENTS: dict[str, Callable[..., GradientOperands]] = {
    "luq": _luq,
    "dorefa": _dorefa,
    "ptq": _ptq,
    "psq": _psq,
    "bhq": _bhq,
    "unified_int8": _unified_int8,
    "two_phase_fp4": _two_phase_fp4,
    "codebook": _codebook,
    "fitted_codebook": _fitted_codebook,
}
#: Independent quantisations whose results are averaged: `GemmSpec.samples`.
Samples = Annotated[int, Field(ge=1, le=MAX_SAMPLES)]

GRADIENTS = Choice("gradient quantiser", "name", _GRADIENTS, {"samples": (Samples, 1)})
GradientValue = Annotated[str | SerializeAsAny[Strict], BeforeValidator(GRADIENTS), GRADIENTS]

_TRANSFORMS: dict[str, Callable[..., Any]] = {
    "hadamard": HadamardTransform,
    "householder": HouseholderTransform,
}
TRANSFORMS = Choice("transform", "name", _TRANSFORMS)
TransformValue = Annotated[str | SerializeAsAny[Strict], BeforeValidator(TRANSFORMS), TRANSFORMS]
