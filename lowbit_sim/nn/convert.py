"""Swap a model's layers for emulated ones, and back. Explicit module replacement; nothing is patched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lowbit_sim.nn.modules import EMULATED, WITHOUT_TWIN, Conv2d, Emulation, Linear, emulate, native_twin
from lowbit_sim.nn.rules import Rule, match_rules
from lowbit_sim.numerics.whole import is_whole


class UnsupportedModuleError(ValueError):
    """A rule asks for the emulation of a layer that has no emulated twin."""


def convert(model: nn.Module, rules: Sequence[Rule], *, seed: int = 0) -> nn.Module:
    """Emulate a model's Linear and Conv2d layers, in place.

    The emulated layers share the native ones' parameters, so optimisers, state_dicts and hooks stay valid.

    Args:
        model: The model. A lone Linear or Conv2d works too.
        rules: Ordered rules; the first that matches a layer's path decides. A layer without a rule stays native.
        seed: Seed of the stochastic rounding, 0 to 2^32 - 1.

    Returns:
        The model; a new object only if the model itself is one layer.

    Raises:
        UnusedRuleError: A rule that no layer takes its numerics from.
        UnsupportedModuleError: A rule that would emulate a layer that multiplies matrices but has no twin.
        ValueError: A model that is converted already, a seed outside its range, or one layer under two paths with
            different rules.
    """
    _refuse_converted(model)
    layers = {path: m for path, m in model.named_modules(remove_duplicate=False) if _multiplies(m)}
    chosen = match_rules(rules, list(layers))
    _refuse_fused(model, {path for path, rule in chosen.items() if rule.spec is not None})
    twins: dict[int, tuple[str, Rule | None, nn.Module]] = {}
    for site, (path, layer) in enumerate(layers.items()):
        rule = chosen.get(path)
        if id(layer) in twins:
            _check_shared(path, rule, *twins[id(layer)][:2])
            continue
        twin = layer
        if rule is not None and rule.spec is not None:
            _check_supported(path, layer, rule)
            twin = emulate(layer, Emulation(spec=rule.spec, layer=path, seed=seed, site=site))
        twins[id(layer)] = (path, rule, twin)
    return _replace(model, lambda m: twins[id(m)][2] if id(m) in twins else m)


def restore(model: nn.Module) -> nn.Module:
    """Swap the emulated layers back for native ones, in place, with the trained parameters.

    Returns:
        The model; a new object only if the model itself is one layer.
    """
    twins: dict[int, nn.Module] = {}

    def native(module: nn.Module) -> nn.Module:
        if not isinstance(module, Linear | Conv2d):
            return module
        return twins.setdefault(id(module), native_twin(module))

    return _replace(model, native)


def _multiplies(module: nn.Module) -> bool:
    return isinstance(module, WITHOUT_TWIN)


def _refuse_converted(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, Linear | Conv2d):
            raise ValueError(f"layer {path!r} is emulated already: restore(model) first")


def _refuse_fused(model: nn.Module, emulated: set[str]) -> None:
    """Refuse a block that would pass its emulated layers by.

    In evaluation mode torch runs a TransformerEncoderLayer as one fused kernel on the layers' weights.
    """
    for path, module in model.named_modules():
        inside = [p for p in emulated if p.startswith(f"{path}." if path else "")]
        if isinstance(module, nn.TransformerEncoderLayer) and inside:
            raise UnsupportedModuleError(
                f"{path!r} is a TransformerEncoderLayer, which in evaluation mode does not call {min(inside)!r} but "
                f'a fused kernel. Put Rule("{path}.*", None) first, or write the block out of Linear layers'
            )


def _check_shared(path: str, rule: Rule | None, other_path: str, other_rule: Rule | None) -> None:
    if (rule and rule.spec) != (other_rule and other_rule.spec):
        raise ValueError(f"{path!r} and {other_path!r} are one layer, but their rules differ")


def _check_supported(path: str, layer: nn.Module, rule: Rule) -> None:
    if type(layer) not in EMULATED:
        known = ", ".join(native.__name__ for native in EMULATED)
        raise UnsupportedModuleError(
            f"rule {rule.pattern!r} asks to emulate {path!r}, a {type(layer).__name__}; only {known} can be. "
            f'Put Rule("{path}", None) before it to keep that layer native'
        )


def _replace(model: nn.Module, twin: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Put each submodule's twin in its place, everywhere it occurs."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None:
                parent._modules[name] = twin(child)
    return twin(model)


def random_steps(model: nn.Module) -> dict[str, int]:
    """How many training steps each emulated layer has drawn random bits for, by module path.

    Save it with a checkpoint, beside the state_dict (which has a native model's keys and no others).
    """
    return {path: m.random_step for path, m in model.named_modules() if isinstance(m, Linear | Conv2d)}


def set_random_steps(model: nn.Module, steps: dict[str, int]) -> None:
    """Put the counters of `random_steps` back, so that training goes on with the bits it would have drawn.

    Raises:
        ValueError: Paths that are not those of the model's emulated layers, or a step that is no count.
    """
    current = random_steps(model)
    if current.keys() != steps.keys():
        odd = sorted(current.keys() ^ steps.keys())
        raise ValueError(f"random steps are for other layers than the model's: {', '.join(odd)}")
    for path, step in steps.items():
        if not is_whole(step, 0, (1 << 32) - 1):
            raise ValueError(f"random step of {path!r} must be from 0 to 2^32 - 1, got {step!r}")
        layer = model.get_submodule(path)
        assert isinstance(layer, Linear | Conv2d)
        layer.random_step = step


@dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """One layer of a summary.

    Attributes:
        path: Module path.
        kind: Class name.
        numerics: The three GEMMs in words, or "native".
    """

    path: str
    kind: str
    numerics: str


def summary(model: nn.Module) -> list[LayerSummary]:
    """Every layer that multiplies matrices, with its numerics, in the model's order."""
    return [
        LayerSummary(
            path=path,
            kind=type(module).__name__,
            numerics=str(module.emulation.spec) if isinstance(module, Linear | Conv2d) else "native",
        )
        for path, module in model.named_modules()
        if _multiplies(module)
    ]
