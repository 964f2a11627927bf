"""In which formats the tensors around a layer or a pass are stored: float32, or those of a machine's activations.

A machine that keeps activations in a narrower format (`arithmetic.activations`) rounds what a layer puts out and the
gradients that go back, each on its way out of the work that writes it:

| tensor         | rounded to    | where                                                                            |
|----------------|---------------|----------------------------------------------------------------------------------|
| result         | `output`      | by the work that writes it                                                       |
| its gradient   | `grad_input`  | by each of its readers, which hand it back                                       |
| their sum      | `grad_output` | by the addition; with one reader, by that reader, if it has not rounded it       |

so that a cast costs nothing but its random bits, and saves bytes. Where nothing writes the tensor, as an array whose
float sums are the result as they are, the cast is a pass. What enters a model is float32. These are the rules by
which a traced model is billed (`lowbit_sim.ops.elementwise`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hw_models.workloads.errors import WorkloadError
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import FixedScale
from lowbit_sim.trace import VectorEvent

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Formats of the tensors around a layer or a pass; None for float32.

    Attributes:
        x: The input.
        y: The result.
        g: The gradient of the result.
        dx: The gradient of the input, as it is handed back.
    """

    x: Quantizer | None = None
    y: Quantizer | None = None
    g: Quantizer | None = None
    dx: Quantizer | None = None


FLOAT32 = Stored()


def stored_bytes(elements: int, quantizer: Quantizer | None) -> int:
    """Bytes of so many elements of a tensor in its format."""
    return elements * FLOAT_BYTES if quantizer is None else ceil(elements * quantizer.element_format.bits / 8)


def drawn_bits(elements: int, quantizer: Quantizer | None) -> int:
    """Random bits of rounding so many elements."""
    if quantizer is None or not quantizer.rounding.is_stochastic:
        return 0
    return elements * quantizer.rounding.random_bits


def narrowed(event: VectorEvent, elements: int, quantizer: Quantizer) -> VectorEvent:
    """An event that writes so many elements of float32, with them rounded on their way out."""
    return replace(
        event,
        write_bytes=event.write_bytes - stored_bytes(elements, None) + stored_bytes(elements, quantizer),
        random_bits=event.random_bits + drawn_bits(elements, quantizer),
    )


def gradient_as_written(spec: ElementwiseSpec | None, readers: int) -> Quantizer | None:
    """The format in which each reader of a tensor hands its gradient back."""
    if spec is None:
        return None
    return spec.grad_input or (spec.grad_output if readers == 1 else None)


def gradient_as_read(spec: ElementwiseSpec | None, readers: int) -> Quantizer | None:
    """The format of the gradient of a tensor with so many readers, after it was summed."""
    if spec is None:
        return None
    return spec.grad_output or (spec.grad_input if readers == 1 else None)


def between_layers(spec: ElementwiseSpec | None, *, image: bool) -> Stored:
    """The formats around a layer of a list, in which each tensor has one reader.

    Args:
        spec: The formats of activations; None for float32.
        image: Whether the layer's input enters the model, in float32.
    """
    if spec is None:
        return FLOAT32
    return Stored(
        x=None if image else spec.output,
        y=spec.output,
        g=gradient_as_read(spec, 1),
        dx=gradient_as_written(spec, 1),
    )


def checked(spec: ElementwiseSpec | None) -> ElementwiseSpec | None:
    """The formats of activations, if the layers of a file can be billed with them.

    Raises:
        WorkloadError: A scale that must be found first, which takes passes of its own, or gradients cast twice.
    """
    if spec is None:
        return None
    for role in ("output", "grad_input", "grad_output"):
        quantizer: Quantizer | None = getattr(spec, role)
        if quantizer is not None and (quantizer.block or not isinstance(quantizer.scale, FixedScale)):
            raise WorkloadError(
                f"activations.{role} = {quantizer}: the layers of a file are priced with activations that are cast, "
                'with a scale of { rule = "fixed", value = 1.0 }; trace a model for any other'
            )
    if spec.grad_input and spec.grad_output and spec.grad_input != spec.grad_output:
        raise WorkloadError(
            f"activations.grad_input = {spec.grad_input} and activations.grad_output = {spec.grad_output}: the "
            "layers of a file are priced with one format for both; trace a model for two"
        )
    return spec
