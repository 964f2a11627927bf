"""What a width, a count or a seed must be."""

from __future__ import annotations

from numbers import Integral


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number from `low` to `high`; 4.0 and true are not, numpy's integers are."""
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high
