"""The README has every key, with the meaning that the schema gives it, and every profile."""

import re

from pydantic import BaseModel

import hw_models
from hw_models.key_tables import README, key_tables, profile_table, with_tables
from hw_models.schema.fields import nested_table
from hw_models.schema.memory import OnChip


def schema_keys(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    """The keys of a table and of all tables in it."""
    seen.add(model)
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        inner = nested_table(field)
        if inner is not None and inner not in seen:
            keys |= schema_keys(inner, seen)
    return keys


def described_keys(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_every_key_of_the_schema_is_described_and_no_other():
    tables = set(hw_models.HardwareProfile.model_fields) | {"dram"}
    seen: set[type[BaseModel]] = set()
    keys = schema_keys(hw_models.HardwareProfile, seen) | schema_keys(OnChip, seen)
    assert described_keys(key_tables()) == keys - tables


def test_no_meaning_is_empty():
    rows = [row.split(" | ") for row in key_tables().splitlines() if row.startswith("| `")]
    assert len(rows) > 80
    for row in rows:
        assert all(cell.strip(" |") for cell in row), row
        assert "None" not in row[-1], row


def test_defaults_are_told():
    assert '| `loading` | "exposed" or "hidden"; left out: "exposed" | ' in key_tables()
    assert "| `rows` | integer > 0 | " in key_tables()
    assert "| `area` |" not in key_tables()


def test_every_profile_is_named_with_its_validation():
    table = profile_table()
    assert described_keys(table) == set(hw_models.profile_names())
    assert hw_models.load("tpu_v1").machine.validation in table


def test_the_readme_is_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python -m hw_models.key_tables"


def test_the_readme_tells_the_commands():
    text = README.read_text(encoding="utf-8")
    for command in ("new", "check", "show", "schema"):
        assert f"lowbit-sim profiles {command}" in text


def test_the_modules_that_the_readme_names_exist():
    folder = README.parent
    for name in re.findall(r"`([\w/]+\.py|[\w/]+/)`", README.read_text().partition("## Describe")[0]):
        found = (folder / name).exists() or any(folder.glob(f"*/{name}"))
        assert found, name
