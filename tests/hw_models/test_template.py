"""The template is a valid profile that says what each key means."""

import re

import pytest
from pydantic import BaseModel

import hw_models
from hw_models.check import check
from hw_models.schema.fields import is_repeated, nested_table
from hw_models.template import explained, template
from tests.hw_models.example import example


def described_keys(model: type[BaseModel]) -> set[str]:
    """The keys of a table and of its repeated tables."""
    found = set()
    for key, field in model.model_fields.items():
        inner = nested_table(field)
        found |= described_keys(inner) if inner and is_repeated(field) else {key}
    return found - {"sources"}


def test_the_template_is_a_valid_profile():
    profile = hw_models.parse(template("my_chip_2"), "my_chip_2.toml")
    assert profile.machine.name == "my_chip_2"
    assert profile.op_spec().output is not None


def test_the_template_gives_no_cause_for_a_remark():
    assert check(template("mine")) == []


@pytest.mark.parametrize(
    "table", [key for key in hw_models.HardwareProfile.model_fields if key != "memory"], ids=str
)
def test_every_key_of_a_table_stands_there_with_its_meaning(table):
    text = template("mine")
    model = nested_table(hw_models.HardwareProfile.model_fields[table])
    assert model is not None
    block = re.search(rf"^#?\[{table}\]\n.*?(?=^#?\[(?!\[?{table}))", text + "[end", re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = block.group().splitlines()
    keys = {m.group(1): i for i, line in enumerate(lines) if (m := re.match(r"#?([a-z_]\w*) = ", line))}
    assert set(keys) == described_keys(model)
    assert all(lines[i - 1].startswith("# ") for key, i in keys.items() if key != "source")


def test_what_may_be_left_out_is_a_comment_and_what_may_not_is_none():
    text = template("mine")
    for model in (nested_table(field) for field in hw_models.HardwareProfile.model_fields.values()):
        assert model is not None
        for key, field in model.model_fields.items():
            if not field.is_required() and key not in ("sources", "gradient_rounding"):
                assert not re.search(rf"^{key} = ", text.partition("[memory")[0], re.MULTILINE), key


def switched_on(text: str, table: str) -> str:
    """The text with an optional table's lines made keys."""
    return re.sub(
        rf"^#\[{table}\]\n(?:#.*\n)*",
        lambda block: re.sub(r"^#(?! )", "", block.group(), flags=re.MULTILINE),
        text,
        flags=re.MULTILINE,
    )


def test_the_optional_tables_are_valid_when_they_are_switched_on():
    text = switched_on(switched_on(template("mine"), "area"), "interconnect")
    profile = hw_models.parse(text, "mine.toml")
    assert profile.area is not None
    assert profile.interconnect is not None
    assert check(text) == []


@pytest.mark.parametrize(
    "line",
    [line for line in template("mine").partition("#[area]")[0].splitlines() if re.match("#[a-z]", line)],
    ids=lambda line: line.partition(" ")[0].lstrip("#"),
)
def test_every_key_that_is_switched_off_is_valid_by_itself(line):
    key = line.partition(" ")[0].lstrip("#")
    text = template("mine").replace(f"\n{line}\n", f"\n{line[1:]}\n", 1)
    if key in ("multiply_pj", "add_pj", "gradient", "across"):
        with pytest.raises(hw_models.ProfileError, match=f"{key}"):
            hw_models.parse(text, "mine.toml")
    else:
        assert hw_models.parse(text, "mine.toml") is not None


@pytest.mark.parametrize("name", ["", "Mine", "2nd", "my-chip", 'a"b', "a\n"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="lower-case letters, digits and underscores, got"):
        template(name)


def test_ranges_and_choices_are_said_once():
    fields = hw_models.HardwareProfile.model_fields
    array = nested_table(fields["array"])
    assert array is not None
    assert explained(array.model_fields["rows"]) == "Rows of processing elements of one array. [integer > 0]"
    assert explained(array.model_fields["loading"]).endswith('["exposed" or "hidden"]')
    assert explained(array.model_fields["dataflow"]).endswith("adder trees without skew.")
    energy = nested_table(fields["energy"])
    assert energy is not None
    assert explained(energy.model_fields["random_bit_pj"]) == "pJ of a random bit. [number >= 0, or a figure]"


def test_the_template_is_the_same_each_time():
    assert template("mine") == template("mine")
    assert example().machine.name == "mine"
