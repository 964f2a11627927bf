"""The axes of a sweep: keys of a profile with the values that they take, and the grid that they span."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from hw_models.load import ProfileError

Value = int | float | bool | str

#: More points than these would take hours, and memory for each of them.
MOST_POINTS = 1_000_000

#: Keys and values of one point of a grid.
Settings = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A key of a profile and the values that it takes (see `overrides` for how keys are written).

    Raises:
        ProfileError: No value, or one twice.
    """

    key: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ProfileError(f"{self.key}: a sweep needs at least one value")
        twice = [value for i, value in enumerate(self.values) if value in self.values[:i]]
        if twice:
            raise ProfileError(f"{self.key}: the value {twice[0]!r} is given more than once")

    @classmethod
    def parse(cls, text: str) -> Axis:
        """The axis that a text like "array.rows=8,16,32" describes.

        Numbers, true and false are written as in a profile, and 1e9 may stand for an integer; all else is a string.

        Raises:
            ProfileError: Not of this form.
        """
        key, equals, values = text.partition("=")
        parts = [part.strip() for part in values.split(",")]
        if not key.strip() or not equals or not all(parts):
            raise ProfileError(
                f"a sweep is written KEY=VALUE,VALUE,..., such as array.rows=8,16,32; got {text!r}"
            )
        return cls(key=key.strip(), values=tuple(map(_value, parts)))


def _value(text: str) -> Value:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value if isinstance(value, Value) else text


def grid(axes: Sequence[Axis]) -> list[Settings]:
    """Every combination of the axes' values; the last axis runs fastest.

    Raises:
        ProfileError: A key on two axes, or more than `MOST_POINTS` points.
    """
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ProfileError(f"{key} is swept more than once: give all its values in one place")
    points = math.prod(len(axis.values) for axis in axes)
    if points > MOST_POINTS:
        sizes = " x ".join(str(len(axis.values)) for axis in axes)
        raise ProfileError(
            f"a sweep has at most {MOST_POINTS:,} points, got {sizes} = {points:,}: give fewer values"
        )
    return [tuple(zip(keys, values, strict=True)) for values in itertools.product(*(a.values for a in axes))]
