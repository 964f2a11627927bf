"""Swap a model's layers for emulated ones, and back. Explicit module replacement; nothing is patched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.elementwise import ElementwiseRounding, attach, attached, attachments, detach
from lowbit_sim.nn.emulation import EmulatedLayer, Emulation
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.nn.registry import UNFUSED, emulate, multiplies, native_twin, own_forward, retyped, why_not
from lowbit_sim.nn.rules import Rule, match_products, match_rules
from lowbit_sim.numerics.whole import is_whole


class UnsupportedModuleError(ValueError):
    """A rule asks for the emulation of a layer that has no emulated twin."""


def convert(model: nn.Module, rules: Sequence[Rule], *, seed: int = 0) -> nn.Module:
    """Emulate a model's layers, in place.

    The emulated layers share the native ones' parameters, so optimisers, state_dicts and hooks stay valid.

    Args:
        model: The model. A lone Linear or Conv2d works too.
        rules: Ordered rules; the first that matches a layer's path decides. A layer without a rule stays native. A
            rule with an `ElementwiseSpec` rounds what modules without GEMMs put out (see `ops.elementwise`), one with
            `activations` what layers put out too; one with a `FunctionalSpec` emulates the products that a module's
            own forward calls (see `nn.functional`).
        seed: Seed of the stochastic rounding, 0 to 2^32 - 1.

    Returns:
        The model; a new object only if the model itself is what a rule is for.

    Raises:
        UnusedRuleError: A rule that no layer takes its numerics from.
        UnsupportedModuleError: A rule that would emulate a layer that multiplies matrices but has no twin.
        TypeError: Rules that are no sequence of `Rule`.
        ValueError: A model that is converted already, a seed outside its range, or one layer under two paths with
            different rules.
    """
    _refuse_converted(model)
    modules = _modules(model)
    layers = {path: m for path, m in modules.items() if multiplies(m)}
    callers = {path: m for path, m in modules.items() if path not in layers}
    elementwise = {path: m for path, m in callers.items() if not any(True for _ in m.children())}
    functional = [*callers, *(path for path, m in layers.items() if _may_call(m))]
    chosen = match_rules(rules, list(layers), list(elementwise), functional)
    products = match_products(rules, functional)
    # The modules without GEMMs come first, so that a rule with activations leaves their random bits alone.
    roundings = _roundings({**elementwise, **layers}, chosen, seed)
    unfused = _unfused(model, {p for each in (chosen, products) for p, rule in each.items() if rule.spec})
    twins: dict[int, tuple[str, Rule | None, nn.Module]] = {}
    # The layers' numbers come first, so that a rule for products leaves their random bits alone.
    for site, (path, layer) in enumerate([*layers.items(), *callers.items()]):
        rule = _first(rules, chosen.get(path) if path in layers else None, products.get(path))
        if id(layer) in twins:
            _check_shared(path, rule, *twins[id(layer)][:2])
            continue
        twin = layer if id(layer) not in unfused else retyped(layer, UNFUSED[type(layer)])
        if rule is not None and isinstance(rule.spec, OpSpec | FunctionalSpec):
            if path in layers and not (isinstance(rule.spec, FunctionalSpec) and own_forward(layer)):
                _check_supported(path, layer, rule)
            twin = emulate(layer, Emulation(spec=rule.spec, layer=path, seed=seed, site=site))
        twins[id(layer)] = (path, rule, twin)
    for module, rounding in roundings:
        attach(twins[id(module)][2], rounding)
    return _replace(model, lambda m: twins[id(m)][2] if id(m) in twins else m)


def restore(model: nn.Module) -> nn.Module:
    """Swap the emulated layers back for native ones, in place, with the trained parameters; end all rounding.

    Returns:
        The model; a new object only if the model itself is what a rule is for.
    """
    twins: dict[int, nn.Module] = {}

    for module in model.modules():
        detach(module)

    def native(module: nn.Module) -> nn.Module:
        fused = next((fused for fused, twin in UNFUSED.items() if type(module) is twin), None)
        if id(module) not in twins:
            if isinstance(module, EmulatedLayer):
                twins[id(module)] = native_twin(module)
            else:
                twins[id(module)] = retyped(module, fused) if fused else module
        return twins[id(module)]

    return _replace(model, native)


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its paths, but for the parts of layers: a MultiheadAttention's projection is its own affair."""
    found = dict(model.named_modules(remove_duplicate=False))
    whole = [f"{path}." if path else "" for path, m in found.items() if isinstance(m, nn.MultiheadAttention)]
    return {
        path: m for path, m in found.items() if not any(path.startswith(w) and path != w[:-1] for w in whole)
    }


def _may_call(layer: nn.Module) -> bool:
    """Whether a rule for products can be for a layer."""
    return isinstance(layer, nn.MultiheadAttention) or own_forward(layer)


def _first(rules: Sequence[Rule], *found: Rule | None) -> Rule | None:
    """Of the rules that were found for a module the first."""
    there = [rule for rule in found if rule is not None]
    return min(there, key=lambda rule: next(i for i, r in enumerate(rules) if r is rule), default=None)


def _roundings(
    modules: dict[str, nn.Module], chosen: dict[str, Rule], seed: int
) -> list[tuple[nn.Module, ElementwiseRounding]]:
    """The modules that are to be rounded, each once, and what rounds them."""
    found: list[tuple[nn.Module, ElementwiseRounding]] = []
    seen: dict[int, tuple[str, Rule | None]] = {}
    for site, (path, module) in enumerate(modules.items()):
        rule = chosen.get(path)
        if id(module) in seen:
            _check_shared(path, rule, *seen[id(module)])
            continue
        seen[id(module)] = (path, rule)
        if rule is not None and rule.rounding is not None:
            found.append((module, ElementwiseRounding(rule.rounding, path, seed, site)))
    return found


def _refuse_converted(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, EmulatedLayer) or attached(module) is not None:
            raise ValueError(f"layer {path!r} is emulated already: restore(model) first")


def _unfused(model: nn.Module, given: set[str]) -> set[int]:
    """torch's encoders with rules inside; in evaluation mode they would not call their layers but a fused kernel.

    Raises:
        UnsupportedModuleError: A subclass of such an encoder.
    """
    found: set[int] = set()
    for path, module in model.named_modules():
        inside = [p for p in given if p.startswith(f"{path}." if path else "") and p != path]
        if not isinstance(module, tuple(UNFUSED)) or not inside:
            continue
        if type(module) not in UNFUSED:
            raise UnsupportedModuleError(
                f"{path!r} is a {type(module).__name__}, a subclass of torch's TransformerEncoderLayer or "
                f"TransformerEncoder: in evaluation mode it may not call {min(inside)!r} but a fused kernel. Put "
                f'Rule("{path}.*", None) first, or use torch\'s own class'
            )
        found.add(id(module))
    return found


def _check_shared(path: str, rule: Rule | None, other_path: str, other_rule: Rule | None) -> None:
    one, other = ((r and r.spec, r and r.activations) for r in (rule, other_rule))
    if one != other:
        raise ValueError(f"{path!r} and {other_path!r} are one layer, but their rules differ")


def _check_supported(path: str, layer: nn.Module, rule: Rule) -> None:
    reason = why_not(layer)
    if reason:
        raise UnsupportedModuleError(
            f"rule {rule.pattern!r} asks to emulate {path!r}, a {type(layer).__name__}; {reason}. "
            f'Put Rule("{path}", None) before it to keep that layer native'
        )


def _replace(model: nn.Module, twin: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Put each submodule's twin in its place, everywhere it occurs."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None:
                parent._modules[name] = twin(child)
    return twin(model)


def _counters(model: nn.Module) -> dict[str, EmulatedLayer | ElementwiseRounding]:
    """What counts training steps, by module path."""
    layers = {path: m for path, m in model.named_modules() if isinstance(m, EmulatedLayer)}
    return {**layers, **dict(attachments(model))}


def random_steps(model: nn.Module) -> dict[str, int]:
    """How many training steps each emulated layer and rounded module has drawn random bits for, by module path.

    Save it with a checkpoint, beside the state_dict (which has a native model's keys and no others).
    """
    return {path: counter.random_step for path, counter in _counters(model).items()}


def set_random_steps(model: nn.Module, steps: dict[str, int]) -> None:
    """Put the counters of `random_steps` back, so that training goes on with the bits it would have drawn.

    Raises:
        ValueError: Paths that are not those of the model's emulated layers, or a step that is no count.
    """
    counters = _counters(model)
    if counters.keys() != steps.keys():
        odd = sorted(counters.keys() ^ steps.keys())
        raise ValueError(f"random steps are for other layers than the model's: {', '.join(odd)}")
    for path, step in steps.items():
        if not is_whole(step, 0, (1 << 32) - 1):
            raise ValueError(f"random step of {path!r} must be from 0 to 2^32 - 1, got {step!r}")
    for path, step in steps.items():
        counters[path].random_step = step


@dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """One layer of a summary.

    Attributes:
        path: Module path.
        kind: Class name.
        numerics: The three GEMMs or the element-wise formats in words, or "native".
    """

    path: str
    kind: str
    numerics: str


def summary(model: nn.Module) -> list[LayerSummary]:
    """Every layer that multiplies matrices and every rounded module, with its numerics, in the model's order."""
    whole = _modules(model)
    return [
        LayerSummary(path=path, kind=type(module).__name__, numerics=numerics)
        for path, module in model.named_modules()
        if path in whole and (numerics := _numerics(module)) is not None
    ]


def _numerics(module: nn.Module) -> str | None:
    rounding = attached(module)
    words = [str(module.emulation.spec)] if isinstance(module, EmulatedLayer) else []
    if rounding is not None:
        words.append(f"activations ({rounding.spec})" if words else str(rounding.spec))
    if words:
        return ", ".join(words)
    return "native" if multiplies(module) else None
