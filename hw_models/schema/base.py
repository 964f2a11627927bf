"""What every table of a profile is made of: strict models, sources, and figures with a range.

Units are in the names of the keys. No key is ignored and no type is converted. Every table says where its
numbers come from: `source` for the table, `sources.KEY` for a number from elsewhere. The source of a number that
nobody published for the machine, or that was not checked against its publication, begins with "assumption" and
gives the reason.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeFloat, StringConstraints, model_validator

from lowbit_sim.config.tables import JsonForm, KeyedError, Strict
from lowbit_sim.numerics.suggest import unknown

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Sourced(Strict):
    """A table of numbers, which says where they come from."""

    source: Text = Field(
        description='where the numbers of this table come from: a citation, or "assumption" and why',
        examples=["assumption: example figures, replace them with your own and cite them"],
    )
    sources: dict[str, Text] = Field(
        default={},
        description="the source of single keys of this table, where it is another one",
    )

    def __hash__(self) -> int:
        # A dict has no hash of its own. Equal tables have equal values, whatever the order of their keys.
        values = (getattr(self, name) for name in type(self).model_fields)
        return hash((type(self), *(frozenset(v.items()) if isinstance(v, dict) else v for v in values)))

    @model_validator(mode="after")
    def _sources_name_keys(self) -> Sourced:
        known = set(type(self).model_fields) - {"source", "sources"}
        for key in self.sources:
            if key not in known:
                raise KeyedError(("sources", key), unknown("key under sources", key, known))
        return self


class Figure(Strict):
    """A number that published tables disagree about: low <= nominal <= high, each with its source.

    In a profile a bare number is a figure whose three values are the same and whose source is its table's.
    """

    low: NonNegativeFloat = Field(description="the lowest published value")
    nominal: NonNegativeFloat = Field(description="the value to calculate with")
    high: NonNegativeFloat = Field(description="the highest published value")
    low_source: Text | None = Field(default=None, description="where the low value comes from")
    nominal_source: Text | None = Field(default=None, description="where the nominal value comes from")
    high_source: Text | None = Field(default=None, description="where the high value comes from")

    @model_validator(mode="after")
    def _in_order(self) -> Figure:
        if not self.low <= self.nominal <= self.high:
            raise ValueError(
                f"a figure has low <= nominal <= high, got {self.low}, {self.nominal}, {self.high}"
            )
        return self

    @model_validator(mode="after")
    def _ends_have_sources(self) -> Figure:
        missing = [
            f"{end}_source"
            for end in ("low", "high")
            if getattr(self, end) != self.nominal and getattr(self, f"{end}_source") is None
        ]
        if missing:
            raise ValueError(f"{' and '.join(missing)} missing: say where each end of the range comes from")
        return self


def _figure(value: Any) -> Any:
    if isinstance(value, dict | Figure):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            "expected a number, or a table { low = ..., nominal = ..., high = ... } with sources"
        )
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("expected a finite number that is not negative")
    return {"low": float(value), "nominal": float(value), "high": float(value)}


def _number_or_table(table: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "number", "minimum": 0}, table]}


#: A figure, or a bare number in its place.
FigureValue = Annotated[Figure, BeforeValidator(_figure), JsonForm(_number_or_table)]


def as_tuple(items: object) -> object:
    """A TOML list as the tuple that a strict model takes.

    Raises:
        ValueError: Anything but a list.
    """
    if not isinstance(items, list | tuple):
        raise ValueError("expected repeated tables: write [[TABLE.KEY]] with two brackets, once for each")
    return tuple(items)
