"""A profile to start from, generated from the schema: each key with its meaning and an example value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hw_models.profile import HardwareProfile
from hw_models.tables import Mode, nested_table

_HEADER = """\
# Profile of {name}. Replace the example figures and their sources.
# Every table needs a `source`: a citation, or the word "assumption" and the reason.
# A key with a source of its own goes into a sub-table, for instance
#     [clock.sources]
#     frequency_hz = "data sheet, table 2"
"""


def template(name: str) -> str:
    """A commented, valid profile for a new machine, as TOML text.

    Args:
        name: Name of the machine: lower-case letters, digits and underscores, a letter first.

    Raises:
        ValueError: Another name.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(f"a machine's name is lower-case letters, digits and underscores, got {name!r}")
    tables = "\n\n".join(_tables(HardwareProfile, "", {"machine.name": name}))
    return f"{_HEADER.format(name=name)}\n{tables}\n"


def _tables(model: type[BaseModel], path: str, values: dict[str, Any]) -> Iterator[str]:
    """The table of a model without its nested ones, then these."""
    keys = {key: field for key, field in model.model_fields.items() if not nested_table(field)}
    lines = [_line(f"{path}.{key}", field, values) for key, field in keys.items() if field.examples]
    if lines:
        repeated = model is Mode
        yield "\n".join([f"[[{path}]]" if repeated else f"[{path}]", *lines])
    for key, field in model.model_fields.items():
        nested = nested_table(field)
        if nested:
            yield from _tables(nested, f"{path}.{key}".lstrip("."), values)


def _line(path: str, field: FieldInfo, values: dict[str, Any]) -> str:
    value = values.get(path, (field.examples or [None])[0])
    # JSON's strings, integers and floats are TOML's too.
    return f"# {field.description}\n{path.rpartition('.')[2]} = {json.dumps(value)}"
