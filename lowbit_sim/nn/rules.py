"""Which layer gets which numerics: an ordered list of rules on module paths, of which the first match wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lowbit_sim.arith.spec import OpSpec


@dataclass(frozen=True)
class Rule:
    """Numerics for the layers whose path matches.

    Args:
        pattern: A module path as `named_modules` gives it, with shell wildcards: "features.0", "layer?.*", "*".
            `*` also spans dots.
        spec: The numerics, or None to keep the layers native.

    Raises:
        TypeError: A pattern that is not a string, or a spec that is not an `OpSpec` or None.
    """

    pattern: str
    spec: OpSpec | None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise TypeError(f"a rule's pattern is a string, got {self.pattern!r}")
        if self.spec is not None and not isinstance(self.spec, OpSpec):
            raise TypeError(f"rule {self.pattern!r} takes an OpSpec or None, got {type(self.spec).__name__}")

    def matches(self, path: str) -> bool:
        """Whether the rule is for a module path."""
        return fnmatchcase(path, self.pattern)


class UnusedRuleError(ValueError):
    """A rule that no layer takes its numerics from."""


def match_rules(rules: Sequence[Rule], paths: Sequence[str]) -> dict[str, Rule]:
    """The first matching rule of each path; a path without one is left out.

    Raises:
        UnusedRuleError: A rule that is first for no path, naming what is wrong with it and the paths there are.
        TypeError: Something that is not a rule.
    """
    for rule in rules:
        if not isinstance(rule, Rule):
            raise TypeError(f'rules are Rule("pattern", spec), got {rule!r}')
    chosen: dict[str, Rule] = {}
    for rule in rules:
        taken = [path for path in paths if path not in chosen and rule.matches(path)]
        if not taken:
            raise UnusedRuleError(_why_unused(rule, rules, paths))
        chosen.update(dict.fromkeys(taken, rule))
    return chosen


def _why_unused(rule: Rule, rules: Sequence[Rule], paths: Sequence[str]) -> str:
    matched = [path for path in paths if rule.matches(path)]
    if matched:
        earlier = next(other for other in rules if other.matches(matched[0]))
        return f"rule {rule.pattern!r} is never used: rule {earlier.pattern!r} before it takes {matched[0]!r}"
    shown = ", ".join(repr(path) for path in paths[:12]) + (", ..." if len(paths) > 12 else "")
    return f"rule {rule.pattern!r} matches no layer: the layers are {shown or 'none'}"
