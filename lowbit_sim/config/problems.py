"""What is wrong with a TOML table, one thing at a time: pydantic's errors with their place in the whole file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from lowbit_sim.config.tables import KeyedError, TableError
from lowbit_sim.numerics.suggest import did_you_mean

#: The names in pydantic's list of what may stand in a place.
_QUOTED = re.compile(r"'([^']*)'")

#: Pydantic's names of errors whose own words speak of inputs and of Python's types.
_PLAINLY = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "string_type": 'expected a text in quotes, as in "int8"',
}

#: Keys and positions in lists, from the file's root.
Location = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        location: Where in the file.
        root: The type of the table that was being read: the file's, or that of a table inside it which a
            validator read by itself.
        inner: Where in that table.
        kind: Pydantic's name of the error.
        value: What stands there.
        reason: What is wrong with it, in words.
    """

    location: Location
    root: type[BaseModel]
    inner: Location
    kind: str
    value: Any
    reason: str

    @property
    def is_about_a_value(self) -> bool:
        """Whether a value of one key is wrong, and not a table or a list."""
        return not isinstance(self.value, dict | list | tuple | BaseModel)


def problems(error: ValidationError, root: type[BaseModel], place: Location = ()) -> Iterator[Problem]:
    """Each thing that is wrong, also inside the tables that a validator has read by itself.

    Args:
        error: What pydantic found.
        root: The type of the table that it was to read.
        place: Where in the file that table lies.
    """
    for each in error.errors():
        details: dict[str, Any] = dict(each)
        location: Location = details["loc"]
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, TableError):
            yield from problems(cause.error, cause.model, (*place, *location))
            continue
        if isinstance(cause, KeyedError):
            location = (*location, *cause.key)
        yield Problem(
            location=(*place, *location),
            root=root,
            inner=location,
            kind=details["type"],
            value=details["input"],
            reason=_reason(details, cause),
        )


def _reason(details: dict[str, Any], cause: object) -> str:
    if (
        details["type"] == "value_error"
    ):  # a check of ours: pydantic would put "Value error" in front of its words
        return str(cause)
    if details["type"] in ("model_type", "dict_type"):  # which speaks of Python's classes
        return "expected a table, as in { key = value }"
    if details["type"] == "tuple_type" and isinstance(details["input"], str):
        return f'expected a list, as in ["{details["input"]}"]'
    if details["type"] in ("tuple_type", "list_type"):
        return "expected a list, as in [ ... ]"
    if details["type"] == "literal_error":
        known = details["ctx"]["expected"]
        return f"expected {known}{did_you_mean(details['input'], _QUOTED.findall(known))}"
    return str(_PLAINLY.get(details["type"], details["msg"]))
