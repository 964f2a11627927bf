"""A profile to start from, generated from the schema: each key with its meaning, its values and an example."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hw_models.profile import HardwareProfile
from hw_models.schema.fields import is_repeated, nested_table, values_of
from hw_models.schema.memory import Memory, OffChip, OnChip
from lowbit_sim.config.toml_text import toml_value

WIDTH = 110

_HEADER = """\
# Profile of {name}. Replace the example figures and their sources, then run
#     lowbit-sim profiles check {name}.toml
#
# A line that begins with # and a space explains; one that begins with # and no space is a key, or a table, that may
# be left out: remove the # to give it. Of such a key the line shows an example or what holds without it.
#
# Every table needs a `source`: a citation, or the word "assumption" and the reason. The source of a single key goes
# under `sources`:
#     sources.rows = "data sheet, table 2"
#
# A figure is a number, or a range in which published tables disagree; each end has its source:
#     read_pj_per_bit = {{ low = 1.6, nominal = 3.9, high = 7.0, low_source = "...", high_source = "..." }}
#
# Editors that know Taplo (Even Better TOML in VS Code) complete and check each key: write the schema with
#     lowbit-sim profiles schema --out lowbit-sim-profile.schema.json
# and make this the first line of this file:
#     #:schema ./lowbit-sim-profile.schema.json
"""

_MEMORIES = (
    "The memories. [memory.dram] is the one outside; every other table is an on-chip level, of any name and in any "
    "number, in the order from the array outwards. Levels that follow one another and hold different operands lie "
    "side by side."
)

#: The example machine, where it differs from the schema's examples: an 8-bit array between two memories.
_EXAMPLE: dict[str, dict[str, Any]] = {
    "arithmetic": {"gradient_rounding": {"mode": "stochastic", "random_bits": 8}},
    "memory.sram": {"holds": ["lhs", "rhs"], "capacity_bytes": 262_144, "bandwidth_bytes_per_cycle": 128},
    "memory.accumulator": {"holds": ["result"], "capacity_bytes": 65_536, "bandwidth_bytes_per_cycle": 128},
    "memory.accumulator.accesses": {"bits": 64, "read_pj": 2.0, "write_pj": 2.0},
    "energy.add": {"bits": 32, "pj": 0.1},
}
_OPTIONAL = ("area", "interconnect")


def template(name: str) -> str:
    """A commented, valid profile for a new machine, as TOML text.

    Args:
        name: Name of the machine: lower-case letters, digits and underscores, a letter first.

    Raises:
        ValueError: Another name.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(f"a machine's name is lower-case letters, digits and underscores, got {name!r}")
    example = {**_EXAMPLE, "machine": {"name": name}}
    blocks = [_HEADER.format(name=name).rstrip()]
    for key, field in HardwareProfile.model_fields.items():
        model = nested_table(field)
        assert model is not None
        tables = _memories(example) if model is Memory else _table(key, model, example)
        blocks += [_switched_off(block) if key in _OPTIONAL else block for block in tables]
    return "\n\n".join(blocks) + "\n"


def _memories(example: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield _comment(_MEMORIES)
    for level in ("memory.sram", "memory.accumulator"):
        yield from _table(level, OnChip, example)
    yield from _table("memory.dram", OffChip, example)


def _table(path: str, model: type[BaseModel], example: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table of a model, and then its repeated ones."""
    about = _comment((model.__doc__ or "").partition("\n\n")[0])
    yield "\n".join([about, f"[{path}]", *_lines(model, example.get(path, {}))])
    for key, field in model.model_fields.items():
        inner = nested_table(field)
        if inner is not None and is_repeated(field):
            repeated = f"{path}.{key}"
            lines = _lines(inner, example.get(repeated, {}))
            yield "\n".join([_comment(explained(field)), f"[[{repeated}]]", *lines])


def _lines(model: type[BaseModel], example: dict[str, Any]) -> Iterator[str]:
    fields = {key: field for key, field in model.model_fields.items() if not is_repeated(field)}
    if "source" in fields:  # the header explains it
        yield f"source = {_written((fields['source'].examples or [])[0])}"
    for key, field in fields.items():
        if key not in ("source", "sources"):
            shown = example.get(key, (field.examples or [field.default])[0])
            switch = "" if field.is_required() or key in example else "#"
            yield f"{_comment(explained(field))}\n{switch}{key} = {_written(shown)}"


def explained(field: FieldInfo) -> str:
    """The meaning of a key and the values that it takes, where its description does not list them."""
    text, values = field.description or "", values_of(field)
    first = text.partition(" ")[0]
    sentence = text if first in _UNITS else text[:1].upper() + text[1:]
    listed = all(choice in text for choice in values.split(" or ")) or values == "text"
    return f"{sentence}." if listed else f"{sentence}. [{values}]"


#: Words that keep their first letter.
_UNITS = ("pJ", "um^2")


def _written(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    return toml_value(value)


def _comment(text: str) -> str:
    return "\n".join(
        f"# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH - 2, break_on_hyphens=False)
    )


def _switched_off(block: str) -> str:
    """A table that may be left out: its keys as comments without a space."""
    return "\n".join(line if line.startswith("#") else f"#{line}" for line in block.split("\n"))
