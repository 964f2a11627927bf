"""SAT's weights as a parametrization of torch: clamped, rounded to DoReFa's levels, rescaled by a constant.

    W~ = tanh(W) / (2 max|tanh W|) + 1/2        Q = 2 q_b(W~) - 1        Q* = c Q        (see `quant.dorefa_weights`)

    dL/dW = c (1 - tanh^2 W) / m (dL/dQ* - [W is the largest] sign(W) <dL/dQ*, tanh W> / m),    m = max|tanh W|

The rounding passes its gradient straight through on all of [0, 1]; c is a constant. The second term is that of the
maximum, and is left out where the maximum counts as a constant too.

In evaluation mode a layer may leave c out and divide its bias by it, so that a machine multiplies Q alone: every
output then is 1 / c times that of training, so that the largest logit stays the largest, but a loss computed from the
logits is not the loss of training.

Source: Jin, Yang and Liao, "Towards Efficient Training for Neural Network Quantization", arXiv 1912.10207. That the
maximum is differentiated and that the bias is divided in evaluation is what the authors' released code does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.owned_steps import as_step, own_quantizer, set_step
from lowbit_sim.nn.weight_preprocessing import WeightPreprocessing
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.quant.dorefa_weights import (
    DoReFaLevels,
    Rescaling,
    clamped,
    largest_tanh,
    rescaling_factor,
)
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scale_rules import LearnedScale
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.trace import VectorEvent, emit, recording

Maximum = Literal["differentiated", "constant"]
Evaluation = Literal["as_trained", "unscaled"]


@dataclass(frozen=True, kw_only=True)
class WeightRescaling:
    """What is done to the weights of a layer.

    Args:
        levels: What they are rounded to; None to clamp them only.
        kind: How they are rescaled; "none" for not.
        maximum: Whether max|tanh W| is "differentiated", or "constant".
        evaluation: In evaluation mode, "as_trained", or "unscaled" for weights without their factor.

    Raises:
        ValueError: An unknown word.
    """

    levels: DoReFaLevels | None
    kind: Rescaling = "constant"
    maximum: Maximum = "differentiated"
    evaluation: Evaluation = "as_trained"

    def __post_init__(self) -> None:
        known = {"kind": Rescaling, "maximum": Maximum, "evaluation": Evaluation}
        for name, words in known.items():
            if getattr(self, name) not in get_args(words):
                what = "rescaling of weights" if name == "kind" else name
                raise ValueError(unknown(what, getattr(self, name), get_args(words)))


class RescaledWeight(WeightPreprocessing):
    """The parametrization: W -> Q*.

    Args:
        rescaling: What is done.
        neurons: n of the constant rescaling: outputs of a linear layer, of a convolution times the kernel's elements.

    Attributes:
        state: Holds the step of the integers that the last pass made, for an emulated layer's quantisers.
    """

    def __init__(self, rescaling: WeightRescaling, neurons: int) -> None:
        super().__init__()
        self.rescaling, self.neurons = rescaling, neurons
        self.state = ScaleState()
        self._uncalibrated = False

    @property
    def passes_uncalibrated(self) -> bool:  # type: ignore[override]
        """Whether the gradient at W is that at Q*."""
        return self._uncalibrated

    @passes_uncalibrated.setter
    def passes_uncalibrated(self, value: bool) -> None:
        if value and self.rescaling.maximum == "differentiated":
            raise ValueError(
                "the gradient of a weight whose maximum is differentiated is no product of two factors, element by "
                'element, so that nothing can be put between them: give sat the key maximum = "constant"'
            )
        self._uncalibrated = value

    def forward(self, weight: Tensor) -> Tensor:
        """Q*, or Q in evaluation mode where the factor is left out; in the shape of W."""
        return _Rescale.apply(weight, self)  # pyright: ignore[reportReturnType]

    def preprocessed(self, weight: Tensor) -> Tensor:
        """W~ within [0, 1]."""
        return clamped(weight) / 2 + 0.5

    def signed(self, weight: Tensor) -> Tensor:
        """tanh(W) / max|tanh W|."""
        return clamped(weight)

    def levelled(self, weight: Tensor) -> Tensor:
        """Q: on its levels, without the factor."""
        return self._numbers(weight) * self._unit

    def trained_factor(self, weight: Tensor) -> Tensor:
        """The factor of training mode: float64, no axes."""
        return rescaling_factor(self.rescaling.kind, weight, self.levelled(weight), self.neurons)

    def quantized(self, weight: Tensor) -> Tensor:
        """Q* as this mode has it: integers times one float32 step, which is kept in `state`."""
        return self.with_factor(weight)[0]

    def with_factor(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Q* and its factor over Q, as this mode has them."""
        numbers = self._numbers(weight)
        factor = self._factor(weight, numbers * self._unit)
        step = (self._unit * factor).to(weight.dtype)
        if self.rescaling.levels is not None:
            self.state.value = as_step(step.to(torch.float32), weight.ndim)
        return numbers * step, factor

    def calibration(self, weight: Tensor) -> Tensor:
        """The factor times (1 - tanh^2 W) / max|tanh W|: the gradient at W over that at Q*, but for the maximum's."""
        return self.slope(weight, self._factor(weight, self.levelled(weight)))

    def slope(self, weight: Tensor, factor: Tensor) -> Tensor:
        """`calibration` with a factor that is known."""
        return (1 - torch.tanh(weight) ** 2) * (factor.to(weight.dtype) / largest_tanh(weight))

    def gradient(self, weight: Tensor, grad: Tensor, factor: Tensor) -> Tensor:
        """The gradient at W of that at Q*."""
        if self.rescaling.maximum == "differentiated":
            grad = grad - _of_maximum(weight, grad)
        return grad * self.slope(weight, factor)

    @property
    def _unit(self) -> float:
        """What one of the numbers is worth."""
        levels = self.rescaling.levels
        return 1.0 if levels is None else levels.step

    def _numbers(self, weight: Tensor) -> Tensor:
        """The integers, or the clamped weights where nothing is rounded."""
        levels = self.rescaling.levels
        return clamped(weight) if levels is None else levels.integers(self.preprocessed(weight))

    def _factor(self, weight: Tensor, levelled: Tensor) -> Tensor:
        """What Q is multiplied by in this mode."""
        unscaled = not self.training and self.rescaling.evaluation == "unscaled"
        return rescaling_factor("none" if unscaled else self.rescaling.kind, weight, levelled, self.neurons)

    def before(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        """The layer's forward pre-hook: while it is emulated, its quantisers read the step that is found here."""
        if isinstance(layer, EmulatedLayer):
            set_step(layer, "weight", self.state)

    def extra_repr(self) -> str:
        """What is done."""
        levels = self.rescaling.levels
        rounding = "clamped" if levels is None else f"{levels.bits} bits, {levels.scheme}"
        return f"{rounding}, rescaling {self.rescaling.kind}"


class UnscaledBias(nn.Module):
    """The parametrization of the bias of a layer that leaves its weight's factor out: in evaluation mode b / c.

    Args:
        weight: The weight's parametrization.
        original: The weight's `ParametrizationList`, which holds W.
    """

    def __init__(self, weight: RescaledWeight, original: nn.Module) -> None:
        super().__init__()
        self._weight = (weight, original)  # in a tuple: they are the weight's own, and no parts of the bias

    def forward(self, bias: Tensor) -> Tensor:
        """The bias as this mode has it."""
        weight, original = self._weight
        if self.training:
            return bias
        return bias / weight.trained_factor(original.original.detach()).to(bias.dtype)  # type: ignore[union-attr]


def rescale_weight(layer: nn.Module, rescaling: WeightRescaling, path: str = "") -> None:
    """Clamp, round and rescale the weights of a layer from now on, in place; optimisers keep their parameters.

    Args:
        layer: A linear layer or a convolution, native or emulated. An emulated layer's GEMMs multiply the integers.
        rescaling: What is done.
        path: The layer's path, for messages.

    Raises:
        ValueError: A weight that is pre-processed already, or numerics that can't multiply the integers.
    """
    if parametrize.is_parametrized(layer, "weight"):
        raise ValueError(
            f"the weight of layer {path!r} is pre-processed already: leave the weights' own pre-processing out"
        )
    step = RescaledWeight(rescaling, _neurons(layer))
    if isinstance(layer, EmulatedLayer) and rescaling.levels is not None:
        own_quantizer(layer, "weight", Quantizer(rescaling.levels.format, scale=LearnedScale()))
        layer.register_forward_pre_hook(step.before)
    parametrize.register_parametrization(layer, "weight", step)
    if rescaling.evaluation == "unscaled" and rescaling.kind != "none" and layer.bias is not None:
        original = layer.parametrizations.weight  # type: ignore[union-attr]
        parametrize.register_parametrization(layer, "bias", UnscaledBias(step, original))  # type: ignore[arg-type]


def rescaled_weight(layer: nn.Module) -> RescaledWeight | None:
    """What rescales a layer's weight, or None."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    steps = layer.parametrizations["weight"]  # type: ignore[index]
    return next((step for step in steps if isinstance(step, RescaledWeight)), None)  # type: ignore[union-attr]


def _neurons(layer: nn.Module) -> int:
    """Outputs of a linear layer; output channels times kernel elements of a convolution."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels * math.prod(layer.kernel_size)  # type: ignore[operator, arg-type]


class _Rescale(torch.autograd.Function):
    @staticmethod
    @bills_itself
    def forward(ctx: Any, weight: Tensor, step: RescaledWeight) -> Tensor:
        ctx.step = step
        if step.training:  # weights that do not change are put on their levels once
            _bill(
                weight, reads=2 + (step.rescaling.kind != "none")
            )  # for maximum and values, and for the variance
        quantized, factor = step.with_factor(weight)
        ctx.save_for_backward(weight, factor)
        return quantized

    @staticmethod
    @bills_itself
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        weight, factor = ctx.saved_tensors
        step: RescaledWeight = ctx.step
        if step.passes_uncalibrated:
            return grad, None
        _bill(weight, reads=4 if step.rescaling.maximum == "differentiated" else 2)
        return step.gradient(weight, grad, factor), None


def _of_maximum(weight: Tensor, grad: Tensor) -> Tensor:
    """What the maximum takes from the gradient at the largest weights, in equal parts where several are largest."""
    magnitude = weight.abs()
    largest = (magnitude == magnitude.max()) & (weight != 0)
    total = (grad * clamped(weight)).sum(dtype=torch.float64).to(grad.dtype)
    share = total / largest.sum().clamp(min=1).to(grad.dtype)
    return torch.where(largest, torch.sign(weight) * share, 0.0)


def _bill(weight: Tensor, *, reads: int) -> None:
    if recording():
        size = weight.numel() * weight.element_size()
        emit(
            VectorEvent(kind="transform", elements=weight.numel(), read_bytes=reads * size, write_bytes=size)
        )
