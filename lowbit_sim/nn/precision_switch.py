"""Layers whose precision changes from one forward pass to the next: full, or on DoReFa's grids (`dorefa_grid.py`).

| weights and inputs | forward GEMM                                   | backward GEMMs                        |
|--------------------|------------------------------------------------|---------------------------------------|
| both on grids      | on the codes, on the emulated layer's MAC unit | the layer's own, with these codes for |
| otherwise          | float32, on the values                         | each operand that is on a grid        |

A native layer multiplies the values in float32 throughout. What a layer has of its own beside the two quantisers of
its forward GEMM (MAC unit, gradients' quantisers) is left as it is, so that a method that switches precisions runs on
any accumulator and with any gradient quantiser. Weights are switched by a parametrization, inputs by a forward
pre-hook; both stay with copies of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.nn.dorefa_grid import FULL, Precision, check_clip, input_quantizer, on_grid, weight_quantizer
from lowbit_sim.nn.emulation import EmulatedLayer, Emulation
from lowbit_sim.nn.learned import STEPS
from lowbit_sim.nn.registry import layer_type
from lowbit_sim.nn.weight_preprocessing import DoReFaWeight
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import Quantizer

#: The layers that can be switched.
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


class SwitchedWeight(DoReFaWeight):
    """DoReFa's W^ while there are `bits`, and W itself while there are none (`bits` is None)."""

    def forward(self, weight: Tensor) -> Tensor:
        """W^ or W."""
        return weight if self.bits is None else super().forward(weight)

    def preprocessed(self, weight: Tensor) -> Tensor:
        """W~ within [0, 1], or W."""
        return weight if self.bits is None else super().preprocessed(weight)

    def signed(self, weight: Tensor) -> Tensor:
        """W~ on a symmetric range, or W."""
        return weight if self.bits is None else super().signed(weight)

    def quantized(self, weight: Tensor) -> Tensor:
        """W^ or W."""
        return weight if self.bits is None else super().quantized(weight)

    def calibration(self, weight: Tensor) -> Tensor:
        """DoReFa's, or 1."""
        return torch.ones_like(weight) if self.bits is None else super().calibration(weight)


class PrecisionSwitch:
    """What switches one layer.

    Args:
        layer: The layer.
        path: Its path.
        clip: Upper end of its inputs' range.

    Attributes:
        training, evaluation: The precision in either mode.
    """

    def __init__(self, layer: nn.Module, path: str, clip: float) -> None:
        self.path, self.clip = path, clip
        self.own: Emulation | None = layer.emulation if isinstance(layer, EmulatedLayer) else None
        self.training = self.evaluation = Precision()
        self._emulations: dict[Precision, Emulation] = {}

    def before(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The forward pre-hook."""
        precision = self.training if layer.training else self.evaluation
        bits = precision.weight_bits
        _weight_of(layer).bits = None if bits == FULL else bits
        as_codes = False
        if self.own is not None and isinstance(layer, EmulatedLayer):
            layer.emulation = self._emulation(self.own, precision)
            as_codes = layer.emulation.op_spec.output is not None
        x = on_grid(args[0], precision.activation_bits, self.clip, self.path, as_codes=as_codes)
        return (x, *args[1:])

    def _emulation(self, own: Emulation, precision: Precision) -> Emulation:
        if precision not in self._emulations:
            spec = switched_spec(own.op_spec, precision, self.clip)
            self._emulations[precision] = replace(own, spec=spec)
        return self._emulations[precision]

    def check(self, precision: Precision) -> None:
        """Refuse a precision that the layer's MAC unit can't multiply.

        Raises:
            ValueError: Naming the layer.
        """
        if self.own is not None:
            try:
                self._emulation(self.own, precision)
            except ValueError as error:
                raise ValueError(f"layer {self.path!r} can't run in {precision}: {error}") from None


def switched_spec(own: OpSpec, precision: Precision, clip: float) -> OpSpec:
    """The numerics of an emulated layer in a precision.

    Args:
        own: The numerics that it has of its own.
        precision: The precision.
        clip: Upper end of its inputs' range.

    Raises:
        ValueError: A grid that a MAC unit can't multiply.
    """
    weight, inputs = weight_quantizer(precision.weight_bits), input_quantizer(precision.activation_bits, clip)
    output = None
    if own.output is not None and weight is not None and inputs is not None:
        output = replace(own.output, lhs=inputs, rhs=weight, samples=1)
    return OpSpec(
        output=output,
        grad_input=_reading(own.grad_input, weight),
        grad_weight=_reading(own.grad_weight, inputs),
    )


def _reading(gemm: GemmSpec | None, operand: Quantizer | None) -> GemmSpec | None:
    """A backward GEMM with the codes of a tensor that is on a grid; a transform would take it off the grid."""
    if gemm is None or operand is None or gemm.transform is not None:
        return gemm
    return replace(gemm, rhs=operand)


def inner_layers(model: nn.Module) -> list[str]:
    """Paths of the linear layers and convolutions but for the first and the last, which usually stay as they are.

    Raises:
        ValueError: There is none between them.
    """
    found = [path for path, _ in _layers(model)]
    if len(found) < 3:
        raise ValueError(
            f"the model's first and last layer stay in full precision, and it has only {', '.join(found) or 'none'}: "
            "name the layers to quantise"
        )
    return found[1:-1]


def chosen_layers(model: nn.Module, patterns: Sequence[str] | None) -> list[str]:
    """The paths of layers that patterns name; with None, `inner_layers`.

    Raises:
        ValueError: A pattern that fits no linear layer and no convolution.
    """
    if patterns is None:
        return inner_layers(model)
    known = [path for path, _ in _layers(model)]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in known):
            raise ValueError(unknown("layer to quantise", pattern, known))
    return [path for path in known if any(fnmatchcase(path, pattern) for pattern in patterns)]


def add_switches(model: nn.Module, layers: Sequence[str] | None = None, *, clip: float = 1.0) -> list[str]:
    """Give layers a switch, in full precision; in place, and optimisers keep their parameters.

    A state_dict then has "parametrizations.weight.original" in the place of "weight".

    Args:
        model: The model, converted or not.
        layers: Patterns of their paths; None for `inner_layers`.
        clip: Upper end of the inputs' range.

    Returns:
        The layers' paths.

    Raises:
        ValueError: No such layer, or one that can't be switched: its weight is pre-processed already, its scales are
            learned, or its forward GEMM transforms its operands.
    """
    check_clip(clip)
    paths = chosen_layers(model, layers)
    found = {path: model.get_submodule(path) for path in paths}
    for path, layer in found.items():
        _check(path, layer)
    for path, layer in found.items():
        parametrize.register_parametrization(layer, "weight", SwitchedWeight(None))
        layer.register_forward_pre_hook(PrecisionSwitch(layer, path, clip).before)
    return paths


def switches(model: nn.Module) -> dict[str, PrecisionSwitch]:
    """The switches of a model by the paths of their layers."""
    return {
        path: switch for path, layer in model.named_modules() if (switch := _switch_of(layer)) is not None
    }


def set_precision(
    model: nn.Module,
    training: Precision,
    evaluation: Precision | None = None,
    layers: Sequence[str] | None = None,
) -> None:
    """Put switched layers in a precision.

    Args:
        model: The model.
        training: The precision of forward passes in training mode.
        evaluation: That of forward passes in evaluation mode; the same if left out.
        layers: Paths that layers had when they were given their switches; all of them, if left out.
    """
    for switch in switches(model).values():
        if layers is None or switch.path in layers:
            switch.training = training
            switch.evaluation = training if evaluation is None else evaluation


def block_of(path: str) -> str:
    """The block of a model that a layer is in: its path up to the first number, or the layer itself.

    "features.3.conv1.conv" is in "features.3", as the blocks of a residual network are.
    """
    parts = path.split(".")
    number = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
    return ".".join(parts[: number + 1])


def is_prepared(model: nn.Module) -> bool:
    """Whether weights of a model are pre-processed, in any way."""
    return any(parametrize.is_parametrized(module) for module in model.modules())


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((path, m) for path, m in model.named_modules() if isinstance(m, _LAYERS))


def _weight_of(layer: nn.Module) -> SwitchedWeight:
    weight = layer.parametrizations.weight[0]  # type: ignore[index, union-attr]
    assert isinstance(weight, SwitchedWeight)
    return weight


def _switch_of(layer: nn.Module) -> PrecisionSwitch | None:
    owners = (getattr(hook, "__self__", None) for hook in layer._forward_pre_hooks.values())
    return next((owner for owner in owners if isinstance(owner, PrecisionSwitch)), None)


def _check(path: str, layer: nn.Module) -> None:
    """Refuse a layer that can't be switched."""
    why = ""
    if parametrize.is_parametrized(layer, "weight"):
        why = (
            "its weight is pre-processed already, by the arm's `weights` or by another recipe: one of them alone can "
            "decide about a weight"
        )
    elif not isinstance(layer, EmulatedLayer) and layer_type(type(layer)) is not type(layer):
        why = f"it is a {type(layer).__name__} with a forward pass of its own"
    elif isinstance(layer, EmulatedLayer):
        why = _why_not_emulated(layer)
    if why:
        raise ValueError(f"layer {path!r} can't switch its precision: {why}")


def _why_not_emulated(layer: EmulatedLayer) -> str:
    spec = layer.emulation.spec
    if not isinstance(spec, OpSpec):
        return "the products that its forward pass calls are emulated, not the layer"
    if any(hasattr(layer, step) for step in STEPS):
        return "its numerics learn scales, and the grids' are given: use another scale rule"
    if spec.output is not None and spec.output.transform is not None:
        return f"its forward GEMM multiplies operands after {spec.output.transform}, which takes them off the grids"
    return ""
