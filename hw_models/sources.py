"""Where a profile's numbers come from: each number with its source, and how many are assumptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from hw_models.profile import HardwareProfile
from hw_models.schema.base import Figure, Sourced

ASSUMPTION = "assumption"


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of a profile.

    Attributes:
        location: Its key as a path.
        value: The number, or a figure's three.
        source: Where it comes from: the figure's own source, else that of its key, else its table's.
    """

    location: tuple[str | int, ...]
    value: float | Figure
    source: str

    @property
    def is_assumption(self) -> bool:
        """Whether nobody published it for the machine."""
        return self.source.startswith(ASSUMPTION)


def numbers(profile: HardwareProfile) -> Iterator[Number]:
    """Every number that a profile gives; what it leaves out to a default is none."""
    yield from _in_table(profile, (), "")


def _in_table(table: BaseModel, path: tuple[str | int, ...], source: str) -> Iterator[Number]:
    own = table.source if isinstance(table, Sourced) else source
    sources = table.sources if isinstance(table, Sourced) else {}
    for key, value in table:
        if key in table.model_fields_set - {"source", "sources"}:
            yield from _in_value(value, (*path, key), sources.get(key, own))


def _in_value(value: Any, path: tuple[str | int, ...], source: str) -> Iterator[Number]:
    if isinstance(value, Figure):
        yield Number(location=path, value=value, source=value.nominal_source or source)
    elif isinstance(value, BaseModel):
        yield from _in_table(value, path, source)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _in_value(item, (*path, i), source)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _in_value(item, (*path, key), source)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Number(location=path, value=value, source=source)
