"""Which layer gets which numerics: an ordered list of rules on module paths, of which the first match wins.

| spec              | the modules that the rule is for; it passes all others by                             |
|-------------------|---------------------------------------------------------------------------------------|
| `OpSpec`          | layers that multiply matrices, and subclasses that leave their forward as it is       |
| `ElementwiseSpec` | modules without GEMMs and without submodules                                          |
| `FunctionalSpec`  | the products that any other module's own forward calls, and all of MultiheadAttention |
| None              | all three                                                                             |

A rule with `activations` is for modules without GEMMs too, whatever its spec.
The products of a module are matched apart from the rest, so that such a rule takes nothing away from other rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.ops.elementwise import ElementwiseSpec


@dataclass(frozen=True)
class Rule:
    """Numerics for the layers whose path matches.

    Args:
        pattern: A module path as `named_modules` gives it, with shell wildcards: "features.0", "layer?.*", "*".
            `*` also spans dots.
        spec: The numerics of a layer's GEMMs, of an element-wise module or of the products that a module calls, or
            None to keep the modules native.
        activations: Beside the numerics of GEMMs, the formats of the tensors between modules: what the layers put out
            after their GEMMs and biases and the gradients that they hand back, and the same of modules without GEMMs
            that the pattern matches. None leaves them in float32.

    Raises:
        TypeError: A pattern that is not a string, or a spec that is none of these.
        ValueError: Activations beside a spec that is not for a layer's GEMMs.
    """

    pattern: str
    spec: OpSpec | ElementwiseSpec | FunctionalSpec | None
    activations: ElementwiseSpec | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise TypeError(f"a rule's pattern is a string, got {self.pattern!r}")
        if self.spec is not None and not isinstance(self.spec, OpSpec | ElementwiseSpec | FunctionalSpec):
            raise TypeError(
                f"rule {self.pattern!r} takes an OpSpec, an ElementwiseSpec, a FunctionalSpec or None, got "
                f"{type(self.spec).__name__}"
            )

        if self.activations is None:
            return
        if not isinstance(self.activations, ElementwiseSpec):
            raise TypeError(
                f"activations of rule {self.pattern!r} are an ElementwiseSpec or None, got {self.activations!r}"
            )
        if not isinstance(self.spec, OpSpec):
            raise ValueError(
                f"activations of rule {self.pattern!r} go with an OpSpec, got {type(self.spec).__name__}: give "
                "modules without GEMMs a rule with the ElementwiseSpec itself"
            )

    @property
    def rounding(self) -> ElementwiseSpec | None:
        """What rounds the tensors that a module puts out and the gradients that it hands back."""
        return self.spec if isinstance(self.spec, ElementwiseSpec) else self.activations

    def matches(self, path: str) -> bool:
        """Whether the rule is for a module path."""
        return fnmatchcase(path, self.pattern)


class UnusedRuleError(ValueError):
    """A rule that no layer takes its numerics from."""


def match_rules(
    rules: Sequence[Rule],
    paths: Sequence[str],
    elementwise: Sequence[str] = (),
    functional: Sequence[str] = (),
) -> dict[str, Rule]:
    """The first matching rule of each path; a path without one is left out.

    Args:
        rules: The rules, in order.
        paths: The layers that multiply matrices.
        elementwise: The modules that an element-wise rule can be for.
        functional: The modules that a rule for products can be for; a None rule may be for those alone.

    Raises:
        UnusedRuleError: A rule that is first for no path, naming what is wrong with it and the paths there are.
        TypeError: Something that is not a rule.
    """
    if isinstance(rules, Rule):
        raise TypeError(f"rules are a list, also of one: [{rules!r}]")
    for rule in rules:
        if not isinstance(rule, Rule):
            raise TypeError(f'rules are Rule("pattern", spec), got {rule!r}')
    # Without an element-wise rule there is nothing to keep such modules from.
    both = [*paths, *elementwise] if any(r.rounding is not None for r in rules) else list(paths)
    chosen: dict[str, Rule] = {}
    about_products = _about_products(rules)
    for rule in rules:
        if isinstance(rule.spec, FunctionalSpec):
            continue
        offered = _offered(rule, both, elementwise, paths)
        matched = [path for path in offered if rule.matches(path)]
        taken = [path for path in matched if path not in chosen]
        if not taken and not (rule in about_products and any(map(rule.matches, functional))):
            raise UnusedRuleError(_why_unused(rule, chosen, matched, offered))
        chosen.update(dict.fromkeys(taken, rule))
    return chosen


def _offered(
    rule: Rule, both: Sequence[str], elementwise: Sequence[str], layers: Sequence[str]
) -> Sequence[str]:
    """The modules that a rule can be for."""
    if rule.spec is None or rule.activations is not None:
        return both
    return elementwise if isinstance(rule.spec, ElementwiseSpec) else layers


def match_products(rules: Sequence[Rule], paths: Sequence[str]) -> dict[str, Rule]:
    """The first matching rule of each module whose forward may call products; see `match_rules`.

    Raises:
        UnusedRuleError: A rule with a `FunctionalSpec` that is first for no path.
    """
    chosen: dict[str, Rule] = {}
    for rule in _about_products(rules):
        matched = [path for path in paths if rule.matches(path)]
        taken = [path for path in matched if path not in chosen]
        if not taken and rule.spec is not None:
            raise UnusedRuleError(_why_unused(rule, chosen, matched, paths))
        chosen.update(dict.fromkeys(taken, rule))
    return chosen


def _about_products(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that decide about products: none without a `FunctionalSpec`, and with one the None rules too."""
    if not any(isinstance(rule.spec, FunctionalSpec) for rule in rules):
        return []
    return [rule for rule in rules if rule.spec is None or isinstance(rule.spec, FunctionalSpec)]


def _why_unused(rule: Rule, chosen: dict[str, Rule], matched: Sequence[str], offered: Sequence[str]) -> str:
    if matched:
        earlier = chosen[matched[0]]
        return f"rule {rule.pattern!r} is never used: rule {earlier.pattern!r} before it takes {matched[0]!r}"
    kinds = {ElementwiseSpec: "modules without GEMMs", FunctionalSpec: "modules that may call products"}
    kind = kinds.get(type(rule.spec), "layers")
    shown = ", ".join(repr(path) for path in offered[:12]) + (", ..." if len(offered) > 12 else "")
    calls = " (products that a module calls as functions take a FunctionalSpec)" if kind == "layers" else ""
    return f"rule {rule.pattern!r} matches no layer: the {kind} are {shown or 'none' + calls}"
