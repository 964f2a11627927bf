"""SAT, scale-adjusted training: weights on DoReFa's levels, rescaled by a constant where no batch-norm follows.

The paper's two rules of efficient training, with X the weights that the forward pass multiplies:

    I   the last linear layer:  VAR[X] << kappa^2 / n_L, else the softmax saturates and its gradient vanishes
        (n_L inputs, each the mean of kappa x kappa pixels)
    II  every other layer is followed by a batch-norm, or VAR[X] is of order 1 / (output neurons)

DoReFa's clamp, tanh(W) / max|tanh W|, spreads weights over [-1, 1] whatever their variance was and so breaks rule I
for wide heads; the constant rescaling, Q* = Q / sqrt(n VAR[Q]), puts it back in order (`quant.dorefa_weights`,
`nn.rescaled_weight`). A recipe does so before training; nothing happens in a step.

Source: Jin, Yang and Liao, "Towards Efficient Training for Neural Network Quantization", arXiv 1912.10207, and the
authors' released code: rescaling of the classifier alone, 8-bit weights in the first and the last layer.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from lowbit_sim.nn.rescaled_weight import (
    Evaluation,
    Maximum,
    WeightRescaling,
    rescale_weight,
    rescaled_weight,
)
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.dorefa_weights import DoReFaLevels, Rescaling, Scheme, variance
from lowbit_sim.training.recipe_protocols import Step
from lowbit_sim.training.weighted_layers import matching, weighted_layers, without_batch_norm

WeightDecay = Literal["all", "dense"]

#: The bits that stand for weights that are clamped, but not rounded.
CLAMPED = 32


@dataclass(kw_only=True, eq=False)
class SAT:
    """A recipe.

    Args:
        bits: Width of the weights' codes, 1 to 16; or 32 to clamp the weights alone, in every layer, and leave the
            rounding to the layers.
        scheme: "original" (DoReFa's), "modified" or "centered".
        rescaling: "constant", "stddev", or "none": clamped and rounded alone.
        edge_bits: Width in the first and in the last layer.
        layers: Paths of the layers, with shell wildcards; None for all linear layers and convolutions.
        rescaled: Paths of those of them that are rescaled; None for those that no batch-norm follows: linear layers
            of which the next module is none, and all convolutions of a model without any.
        maximum: "differentiated", as the authors' code has it, or "constant".
        evaluation: "as_trained" (ours, so that the test loss is comparable), or "unscaled" as in the authors' code.
        weight_decay: On "all" parameters (ours), or on weights that are "dense" alone, as in the authors' recipe: not
            on biases, norms and depthwise convolutions.

    Raises:
        TypeError: Patterns that are one string.
        ValueError: Bits outside their range, an unknown word, or no layers.
    """

    bits: int = 4
    scheme: Scheme = "original"
    rescaling: Rescaling = "constant"
    edge_bits: int = 8
    layers: Sequence[str] | None = None
    rescaled: Sequence[str] | None = None
    maximum: Maximum = "differentiated"
    evaluation: Evaluation = "as_trained"
    weight_decay: WeightDecay = "all"
    _model: weakref.ref[nn.Module] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("layers", "rescaled"):
            patterns = getattr(self, name)
            if isinstance(patterns, str):
                raise TypeError(f"{name} are a list of patterns, also of one: ({patterns!r},)")
        if self.layers is not None and not self.layers:
            raise ValueError("layers is empty: leave it out for all layers, or leave sat out")
        if self.rescaled and self.rescaling == "none":
            raise ValueError('rescaled would have no effect: rescaling is "none"')
        if self.weight_decay not in get_args(WeightDecay):
            raise ValueError(unknown("weight_decay", self.weight_decay, get_args(WeightDecay)))
        self._rescaling(self.bits)
        self._rescaling(self.edge_bits)

    def prepare(self, model: nn.Module) -> None:
        """Put each layer's weight on its levels.

        Raises:
            ValueError: A pattern that matches no layer, a weight that is pre-processed already, or numerics that
                can't multiply the integers.
        """
        chosen = weighted_layers(model, self.layers)
        rescaled = self._rescaled(model, chosen)
        edges = list(weighted_layers(model))
        for path, layer in chosen.items():
            at_the_edge = path in (edges[0], edges[-1]) and self.bits != CLAMPED
            rescaling = self._rescaling(self.edge_bits if at_the_edge else self.bits)
            kind = self.rescaling if path in rescaled else "none"
            rescale_weight(layer, replace(rescaling, kind=kind), path)

    def without_weight_decay(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """None, or all but dense weights."""
        if self.weight_decay == "all":
            return []
        dense = {id(p) for layer in weighted_layers(model).values() for p in _dense_weight(layer)}
        return [p for p in model.parameters() if id(p) not in dense]

    def before_step(self, step: Step) -> None:
        """Nothing.

        Raises:
            ValueError: A model without weights on levels.
        """
        if not _prepared(step.model):
            raise ValueError(
                "the model's weights are on no levels: call prepare(model) before the optimiser is built"
            )

    def on_gradients(self, step: Step) -> None:
        """Nothing: the gradients are those of W."""

    def after_step(self, step: Step) -> None:
        """Remember whose weights are measured."""
        self._model = weakref.ref(step.model)

    def measurements(self) -> dict[str, float]:
        """Of the last layer: the factor, and n_L VAR[X], rule I's number before it is divided by kappa^2."""
        model = self._model() if self._model is not None else None
        if model is None:
            return {}
        layer = _prepared(model)[-1]
        step, weight = rescaled_weight(layer), layer.parametrizations["weight"].original  # type: ignore[index, union-attr]
        assert step is not None
        factor = float(step.trained_factor(weight.detach()))
        spread = float(variance(step.levelled(weight.detach()))) * factor**2
        inputs = weight[0].numel()
        return {"last_factor": factor, "last_logit_variance": inputs * spread}

    def _rescaling(self, bits: int) -> WeightRescaling:
        levels = None if bits == CLAMPED else DoReFaLevels(bits=bits, scheme=self.scheme)
        return WeightRescaling(
            levels=levels, kind=self.rescaling, maximum=self.maximum, evaluation=self.evaluation
        )

    def _rescaled(self, model: nn.Module, chosen: dict[str, nn.Module]) -> set[str]:
        if self.rescaling == "none":
            return set()
        if self.rescaled is not None:
            return set(matching(list(chosen), self.rescaled))
        return set(without_batch_norm(model)) & chosen.keys()


def _prepared(model: nn.Module) -> list[nn.Module]:
    """The layers whose weights are on levels, in the model's order."""
    return [layer for layer in model.modules() if rescaled_weight(layer) is not None]


def _dense_weight(layer: nn.Module) -> list[nn.Parameter]:
    """The weight of a linear layer or of a convolution that is not depthwise."""
    if not isinstance(layer, nn.Linear) and layer.groups == layer.in_channels > 1:  # type: ignore[operator]
        return []
    held = layer._modules.get("parametrizations")
    weight = layer._parameters.get("weight") if held is None else None
    if isinstance(held, nn.ModuleDict) and "weight" in held:
        inside = held["weight"]
        assert isinstance(inside, ParametrizationList)
        weight = inside.original  # type: ignore[assignment]
    return [weight] if isinstance(weight, nn.Parameter) else []
