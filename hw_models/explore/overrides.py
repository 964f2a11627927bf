"""A profile with other values at some of its keys.

A key is written as its path in the profile's file: `array.rows`, `memory.sram.capacity_bytes`,
`array.modes.0.macs_per_pe_per_cycle` (the number counts the repeated tables from 0). In a memory's table `kib`,
`mib` and `gib` set `capacity_bytes` in units of 2^10, 2^20 and 2^30 bytes. The changed profile is checked like a
file's; the source of a changed number becomes "assumption: set by an override", since the file's no longer holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from hw_models.expected import HOPELESS, expected
from hw_models.load import ProfileError, written
from hw_models.profile import HardwareProfile
from hw_models.schema.base import Sourced
from hw_models.schema.memory import OffChip, OnChip
from lowbit_sim.config.problems import Problem, problems
from lowbit_sim.numerics.suggest import unknown

SOURCE = "assumption: set by an override"

_CAPACITY_UNITS = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}

#: A tree of changes: what stands at a key, or the changes below it.
_Tree = dict[str, Any]


class ValueKindError(ProfileError):
    """A value that no machine has at its key: a text for a number, a fraction for a count, an unknown choice."""


def with_overrides(profile: HardwareProfile, overrides: Mapping[str, object]) -> HardwareProfile:
    """The profile with other values.

    Args:
        profile: The machine; it stays as it is.
        overrides: The new value by its key. A bare number in place of a figure sets its low, nominal and high.

    Raises:
        ProfileError: A key that the profile lacks, or values that make no valid profile.
        ValueKindError: Values that are not of their keys' kinds, whatever the others are.
    """
    tree: _Tree = {}
    for key, value in overrides.items():
        path, value = _resolved(profile, key, value)
        _insert(tree, path, value, key)
    return _rebuilt(profile, tree, ())


def check_key(profile: HardwareProfile, key: str) -> None:
    """Raise ProfileError for a key that no value can stand at."""
    path = tuple(key.split("."))
    table = _at(profile, path[:-1], key)
    if not _is_capacity(table, path[-1]):
        _at(profile, path, key)


def check_values(profile: HardwareProfile, key: str, values: Iterable[object]) -> None:
    """Raise ValueKindError for values that are not of a key's kind; those that are may still make no valid profile.

    Numbers and truth values are of a kind together, so that one of each type is tried.
    """
    tried = {value if isinstance(value, str) else type(value): value for value in values}
    for value in tried.values():
        try:
            with_overrides(profile, {key: value})
        except ValueKindError:
            raise
        except ProfileError:
            continue  # with values of other keys it may be valid


def _is_capacity(table: object, key: str) -> bool:
    return key in _CAPACITY_UNITS and isinstance(table, OnChip | OffChip)


def _resolved(profile: HardwareProfile, key: str, value: object) -> tuple[tuple[str, ...], object]:
    """The path of a key, without units, and the value in the path's unit."""
    check_key(profile, key)
    path = tuple(key.split("."))
    if _is_capacity(_at(profile, path[:-1], key), path[-1]):
        return (*path[:-1], "capacity_bytes"), _bytes(value, path[-1], key)
    return path, value


def _bytes(value: object, unit: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueKindError(f"{key} = {written(value)}: a capacity is a number of {unit}")
    size = value * _CAPACITY_UNITS[unit]
    if size != int(size):
        raise ProfileError(f"{key} = {value!r}: a capacity is a whole number of bytes, got {size}")
    return int(size)


def _at(profile: HardwareProfile, path: tuple[str, ...], key: str) -> Any:
    """What stands at a path; raises ProfileError where nothing can."""
    node: Any = profile
    for depth, part in enumerate(path):
        node = _child(node, part, ".".join(path[:depth]), key)
    return node


def _child(node: Any, part: str, where: str, key: str) -> Any:
    if isinstance(node, BaseModel):
        known = {*type(node).model_fields, *(node.model_extra or {})}
        if part not in known:
            units = _CAPACITY_UNITS if isinstance(node, OnChip | OffChip) else ()
            raise ProfileError(f"{key}: " + unknown(f"key in {where or 'a profile'}", part, {*known, *units}))
        return getattr(node, part)
    if isinstance(node, tuple):
        if part not in map(str, range(len(node))):
            last = f"0 to {len(node) - 1}" if len(node) > 1 else "only 0"
            raise ProfileError(f"{key}: {where} is a list, of which {last} can be named; got {part!r}")
        return node[int(part)]
    if isinstance(node, Mapping):
        return node.get(part)
    if node is None:
        raise ProfileError(f"{key}: the profile has no [{where}], and one key does not make it")
    raise ProfileError(f"{key}: {where} is {node!r}, which has no keys")


def _insert(tree: _Tree, path: tuple[str, ...], value: object, key: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ProfileError(f"{key}: what lies above it is overridden too; leave one of them out")
    if path[-1] in tree:
        raise ProfileError(f"{key}: it, or what lies below it, is overridden twice; leave one out")
    tree[path[-1]] = _Value(value)


class _Value:
    """A value at the end of a path, which may itself be a dict."""

    def __init__(self, value: object) -> None:
        self.value = value


def _rebuilt(node: Any, change: Any, path: tuple[str, ...]) -> Any:
    """A part of the profile with changes: new tables along the changed paths, all else shared with the old one."""
    if isinstance(change, _Value):
        return change.value
    if isinstance(node, tuple):
        return tuple(
            _rebuilt(item, change[str(i)], (*path, str(i))) if str(i) in change else item
            for i, item in enumerate(node)
        )
    if not isinstance(node, BaseModel):
        return {**node, **{k: _rebuilt(node.get(k), c, (*path, k)) for k, c in change.items()}}
    if not any(isinstance(c, _Value) for c in change.values()) and _has_no_checks(node):
        return node.model_copy(
            update={key: _rebuilt(getattr(node, key), c, (*path, key)) for key, c in change.items()}
        )
    # In the file's order: of the memories it says which is nearer to the array.
    keys = (*type(node).model_fields, *(node.model_extra or {}))
    table: dict[str, Any] = {key: getattr(node, key) for key in keys if key in node.model_fields_set}
    table |= {key: _rebuilt(getattr(node, key), c, (*path, key)) for key, c in change.items()}
    if isinstance(node, Sourced):
        changed = [key for key in change if key not in ("source", "sources")]
        table["sources"] = {**table.get("sources", {}), **dict.fromkeys(changed, SOURCE)}
    try:
        return type(node).model_validate(table)
    except ValidationError as error:
        found = list(problems(error, type(node), path))
        refusal = ValueKindError if any(p.kind in HOPELESS for p in found) else ProfileError
        raise refusal("\n".join(map(_message, found))) from None


def _has_no_checks(table: BaseModel) -> bool:
    """Whether a table is valid if its parts are. To check it again would check all its other tables again, too."""
    checks = type(table).__pydantic_decorators__
    return not checks.model_validators and not checks.field_validators


def _message(problem: Problem) -> str:
    key = ".".join(map(str, problem.location))
    reason = expected(problem.root, problem.inner, problem.kind) or problem.reason
    shown = f" = {written(problem.value)}" if problem.is_about_a_value else ""
    return f"{key}{shown}: {reason}" if key else reason
