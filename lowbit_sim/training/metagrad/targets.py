"""The parameters that MetaGrad corrects, by the names that they have without wrappers.

By default the weights of emulated layers, those whose gradients come out of emulated GEMMs, and weights that are
pre-processed. Biases, norms and whatever else the patterns leave out pass untouched. "module." of a
DistributedDataParallel and "parametrizations" of a pre-processed weight are no part of a name, so patterns and
checkpoints are the same with and without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrize import ParametrizationList

from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.weight_preprocessing import WeightPreprocessing


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parameter to correct.

    Attributes:
        name: Its name, without wrappers.
        parameter: The parameter.
        preprocessing: How its weight is pre-processed, or None for as it is.
    """

    name: str
    parameter: nn.Parameter
    preprocessing: WeightPreprocessing | None

    def reading(self, kind: str) -> Tensor:
        """The weight as a hypernetwork reads it, "preprocessed" or "signed"."""
        weight = self.parameter.detach()
        if self.preprocessing is None:
            return weight
        return (
            self.preprocessing.preprocessed(weight)
            if kind == "preprocessed"
            else self.preprocessing.signed(weight)
        )


def find_targets(model: nn.Module, patterns: Sequence[str] = ()) -> list[Target]:
    """The parameters that patterns name, or with none the weights of emulated layers and those pre-processed.

    Args:
        model: The model; wrapped in DistributedDataParallel or not.
        patterns: Names with shell wildcards, "features.*.weight".

    Raises:
        ValueError: A pattern that matches no parameter that trains, or a model without emulated layers and no
            patterns.
    """
    model = model.module if isinstance(model, DistributedDataParallel) else model
    found = {t.name: t for t in _named(model)}
    if patterns:
        return _matching(found, patterns)
    return _of_layers(model, found)


def _matching(found: dict[str, Target], patterns: Sequence[str]) -> list[Target]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in found):
            shown = ", ".join(map(repr, list(found)[:12])) + (", ..." if len(found) > 12 else "")
            raise ValueError(f"pattern {pattern!r} matches no parameter that trains: there are {shown}")
    return [t for name, t in found.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _of_layers(model: nn.Module, found: dict[str, Target]) -> list[Target]:
    inside = {
        id(p)
        for layer in model.modules()
        if isinstance(layer, EmulatedLayer)
        for p in layer.parameters()
        if p.ndim >= 2
    }
    chosen = [
        t
        for t in found.values()
        if t.preprocessing is not None
        or (id(t.parameter) in inside and "weight" in t.name.rpartition(".")[2])
    ]
    if not chosen:
        raise ValueError(
            "the model has no emulated layer whose weight trains: convert it first (a study's arm: give it a format "
            'in place of native), or name what is to be corrected, parameters = ["*.weight"]'
        )
    return chosen


def _named(model: nn.Module) -> list[Target]:
    """Every parameter that trains, once."""
    targets, seen = [], set()
    for path, module in model.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is None or not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name, preprocessing = f"{path}.{own}" if path else own, None
            if isinstance(module, ParametrizationList):
                name = path.removeprefix("parametrizations.").replace(".parametrizations.", ".")
                last = list(module)[-1] if len(module) else None
                preprocessing = last if isinstance(last, WeightPreprocessing) else None
            targets.append(Target(name=name, parameter=parameter, preprocessing=preprocessing))
    return targets
