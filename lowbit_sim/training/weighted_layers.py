"""The layers of a model that a recipe quantises: linear layers and convolutions, in the order of the model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from lowbit_sim.nn.emulation import EmulatedLayer, Emulation
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.nn.registry import layer_type
from lowbit_sim.numerics.suggest import unknown

#: The layers whose input and weight can be put on levels.
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def weighted_layers(model: nn.Module, patterns: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Linear layers and convolutions by their paths, native or emulated.

    Args:
        model: The model; wrapped in DistributedDataParallel or not.
        patterns: Paths with shell wildcards; None for all layers.

    Raises:
        ValueError: No layer, or a pattern that matches none.
    """
    found = {path: m for path, m in _own_modules(model) if _is_weighted(m)}
    if not found:
        raise ValueError(
            "the model has no linear layer and no convolution to put on levels (native INT8 layers have their own)"
        )
    return found if patterns is None else {path: found[path] for path in matching(list(found), patterns)}


def matching(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The paths that patterns name, in their own order.

    Raises:
        ValueError: A pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise ValueError(unknown("layer", pattern, paths))
    return [path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)]


def without_batch_norm(model: nn.Module) -> list[str]:
    """The paths of the layers that no batch-norm follows.

    A linear layer is followed by one if it is the next in the model's order of modules, a convolution if the model
    has one at all: which branch of a network a norm stands behind, the order does not tell.
    """
    in_order = [(path, m) for path, m in _own_modules(model) if _is_weighted(m) or isinstance(m, _BatchNorm)]
    has_norms = any(isinstance(m, _BatchNorm) for _, m in in_order)
    found = []
    for place, (path, module) in enumerate(in_order):
        behind = in_order[place + 1][1] if place + 1 < len(in_order) else None
        followed = isinstance(behind, _BatchNorm) if isinstance(module, nn.Linear) else has_norms
        if _is_weighted(module) and not followed:
            found.append(path)
    return found


def _own_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module by its path, but for the parts of attentions, whose projections are functions of the attention."""
    model = model.module if isinstance(model, DistributedDataParallel) else model
    found = list(model.named_modules())
    whole = [f"{path}." if path else "" for path, m in found if isinstance(m, nn.MultiheadAttention)]
    return [(path, m) for path, m in found if not any(path.startswith(w) and path != w[:-1] for w in whole)]


def _is_weighted(module: nn.Module) -> bool:
    """Whether its forward pass is that of one of the `WEIGHTED`, native or emulated."""
    if not isinstance(module, WEIGHTED):
        return False
    if isinstance(module, EmulatedLayer):
        emulation: Emulation = module.emulation
        return not isinstance(emulation.spec, FunctionalSpec)
    return layer_type(type(module)) is not None
