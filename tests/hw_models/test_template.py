"""The template is a valid profile, and with the README says what each key means."""

import re
from pathlib import Path

import pytest

import hw_models
from hw_models.tables import Strict, nested_table

README = (Path(hw_models.__file__).parent / "README.md").read_text()


def test_the_template_is_a_valid_profile():
    profile = hw_models.parse(hw_models.template("my_chip_2"), "my_chip_2.toml")
    assert profile.machine.name == "my_chip_2"
    assert profile.op_spec().output is not None


def test_the_template_comments_each_key():
    lines = hw_models.template("mine").splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"[a-z_]+ = ", line)]
    assert len(keys) > 40
    assert all(lines[i - 1].startswith("# ") for i in keys)


@pytest.mark.parametrize("name", ["", "Mine", "2nd", "my-chip", 'a"b', "a\n"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="lower-case letters, digits and underscores, got"):
        hw_models.template(name)


def schema_keys(model: type[Strict]) -> set[str]:
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        nested = nested_table(field)
        if nested is not None and issubclass(nested, Strict):
            keys |= schema_keys(nested)
    return keys


def test_the_readme_describes_every_key_and_no_other():
    tables = {
        "machine",
        "clock",
        "vector",
        "arithmetic",
        "memory",
        "energy",
        "array",
        "sram",
        "accumulator",
        "dram",
    }
    described = set()
    for row in re.findall(
        r"^\| (`.*?) \|", README.partition("## Describe")[2].partition("## What")[0], re.MULTILINE
    ):
        described |= set(re.findall(r"`(\w+)`", row))
    assert described == schema_keys(hw_models.HardwareProfile) - tables


def test_the_readme_tells_the_command_that_writes_a_profile():
    assert "`lowbit-sim profiles new my_machine`" in README
    assert "hw_models.template" not in README


def test_the_readme_names_every_profile():
    assert set(re.findall(r"^\| `(\w+)` \|", README.partition("## The profiles")[2], re.MULTILINE)) == set(
        hw_models.profile_names()
    )
