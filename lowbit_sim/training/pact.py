"""PACT and CG-PACT: every layer's input is clipped at a level that training learns, then rounded to k bits.

A recipe puts the clips in front of the layers (`nn.learned_clip`) before training and keeps the weight decay from
their levels; the optimiser trains them with the weights. The first layer's input is left as it is, as in the paper
of SAT: images are no activations.

Sources: Choi et al., "PACT", arXiv 1805.06085; Jin, Yang and Liao, "Towards Efficient Training for Neural Network
Quantization", arXiv 1912.10207 (CG-PACT, and no weight decay on the levels, where PACT has one). The levels' starts,
8 for convolutions and 10 for linear layers, and a two-sided clip are in the latter's released code.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import nn

from lowbit_sim.nn.learned_clip import LearnedClip, attach_clip, learned_clips
from lowbit_sim.quant.pact import ClipGradient, ClipGrid
from lowbit_sim.training.recipe_protocols import Step
from lowbit_sim.training.weighted_layers import matching, weighted_layers


@dataclass(kw_only=True, eq=False)
class PACT:
    """A recipe.

    Args:
        bits: k: width of the inputs' codes, 1 to 16.
        gradient: Of the levels: "pact" or "cg_pact".
        layers: Paths of the layers whose inputs are clipped, with shell wildcards; None for all but the first.
        two_sided: Paths of those of them whose inputs are signed, such as the convolutions behind MobileNet-V2's
            linear bottlenecks. Left out, a negative input is an error at the first step.
        conv_alpha, linear_alpha: Where the levels of convolutions and of linear layers start.

    Raises:
        TypeError: Patterns that are one string.
        ValueError: Bits outside their range, an unknown gradient, a start that is not positive, or no layers.
    """

    bits: int = 4
    gradient: ClipGradient = "cg_pact"
    layers: Sequence[str] | None = None
    two_sided: Sequence[str] = ()
    conv_alpha: float = 8.0
    linear_alpha: float = 10.0
    _model: weakref.ref[nn.Module] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("layers", "two_sided"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} are a list of patterns, also of one: ({getattr(self, name)!r},)")
        if self.layers is not None and not self.layers:
            raise ValueError("layers is empty: leave it out for all but the first, or leave pact out")
        for alpha in (self.conv_alpha, self.linear_alpha):  # what a clip refuses is refused here
            LearnedClip(self._grid(bool(self.two_sided)), alpha=alpha, gradient=self.gradient)

    def prepare(self, model: nn.Module) -> None:
        """Put a clip in front of each layer.

        Raises:
            ValueError: A pattern that matches no layer, a layer that is clipped already, or numerics that can't
                multiply the codes.
        """
        chosen = self._chosen(model)
        signed = set(matching(list(chosen), self.two_sided))
        for path, layer in chosen.items():
            alpha = self.linear_alpha if isinstance(layer, nn.Linear) else self.conv_alpha
            grid = self._grid(path in signed)
            attach_clip(layer, LearnedClip(grid, alpha=alpha, gradient=self.gradient, layer=path))

    def without_weight_decay(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """The levels."""
        return [clip.alpha for clip in learned_clips(model).values()]

    def before_step(self, step: Step) -> None:
        """Nothing.

        Raises:
            ValueError: A model without clips.
        """
        if not learned_clips(step.model):
            raise ValueError("the model has no clips: call prepare(model) before the optimiser is built")

    def on_gradients(self, step: Step) -> None:
        """Nothing: the levels' gradients are there."""

    def after_step(self, step: Step) -> None:
        """Remember whose levels are measured."""
        self._model = weakref.ref(step.model)

    def measurements(self) -> dict[str, float]:
        """The mean, the smallest and the largest level; of a run that took no step, nothing."""
        model = self._model() if self._model is not None else None
        if model is None:
            return {}
        levels = [abs(float(clip.alpha.detach())) for clip in learned_clips(model).values()]
        return {
            "alpha_mean": sum(levels) / len(levels),
            "alpha_smallest": min(levels),
            "alpha_largest": max(levels),
        }

    def _chosen(self, model: nn.Module) -> dict[str, nn.Module]:
        if self.layers is not None:
            return weighted_layers(model, self.layers)
        found = weighted_layers(model)
        if len(found) < 2:
            raise ValueError(
                f"the model has one layer, {next(iter(found))!r}, whose input is the model's own and left as it is: "
                "name it in layers if it is to be clipped"
            )
        return dict(list(found.items())[1:])

    def _grid(self, two_sided: bool) -> ClipGrid:
        return ClipGrid(bits=self.bits, two_sided=two_sided)
