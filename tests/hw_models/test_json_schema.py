"""The schema says what profiles may hold: it takes those that load, and refuses what is no profile."""

import json
import tomllib

import pytest

import hw_models
from hw_models.json_schema import json_schema, json_schema_text
from hw_models.load import profile_path
from tests.hw_models.example import example_text


def validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def resolved(schema, node):
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def accepts(schema, node, value) -> bool:
    """Whether a value has the shape that a schema says: types, keys, choices; a slow validator of our own."""
    node = resolved(schema, node)
    if "anyOf" in node:
        return any(accepts(schema, choice, value) for choice in node["anyOf"])
    if "const" in node:
        return value == node["const"]
    if "enum" in node:
        return value in node["enum"]
    kind = node.get("type")
    if kind == "object":
        keys = node.get("properties", {})
        rest = node.get("additionalProperties", True)
        return (
            isinstance(value, dict)
            and set(node.get("required", ())) <= set(value)
            and all(
                accepts(schema, keys[k], v)
                if k in keys
                else bool(rest) and (rest is True or accepts(schema, rest, v))
                for k, v in value.items()
            )
        )
    if kind == "array":
        return isinstance(value, list) and all(accepts(schema, node["items"], item) for item in value)
    if kind in ("integer", "number"):
        types = int if kind == "integer" else (int, float)
        return (
            isinstance(value, types)
            and not isinstance(value, bool)
            and value >= node.get("minimum", value)
            and value <= node.get("maximum", value)
            and value > node.get("exclusiveMinimum", value - 1)
        )
    return isinstance(value, {"string": str, "boolean": bool}[kind])


PROFILES = hw_models.profile_names()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_taken(name):
    schema = json_schema()
    assert accepts(schema, schema, tomllib.loads(profile_path(name).read_text()))


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_taken_by_jsonschema(name):
    assert list(validator().iter_errors(tomllib.loads(profile_path(name).read_text()))) == []


RANGE = '\nregister_pj_per_bit = { low = 1, nominal = 1, high = 1, low_source = "x" }'

CHANGES = {
    "template": ((), True),
    "level of any name": (
        (("\n[memory.sram]", "\n[memory.scratchpad]"), ("[[memory.sram", "[[memory.scratchpad")),
        True,
    ),
    "figure with a range": (
        (
            (
                "\nregister_pj_per_bit = 0.003",
                RANGE,
            ),
        ),
        True,
    ),
    "gradient quantiser by name": (
        (("\ngradient_rounding =", "\n#gradient_rounding ="), ('#gradient = "luq"', 'gradient = "luq"')),
        True,
    ),
    "gradient quantiser as a table": (
        (
            ("\ngradient_rounding =", "\n#gradient_rounding ="),
            ('#gradient = "luq"', 'gradient = { name = "luq", exponent_bits = 2 }'),
        ),
        True,
    ),
    "float accumulator": (
        (('#mac = { accumulator = "fp32" }', 'mac = { accumulator = "fp16", chunk = 64 }'),),
        True,
    ),
    "misspelt key": ((("\nrows = 16", "\nrosw = 16"),), False),
    "misspelt key of a level": (
        (("\ncapacity_bytes = 65_536", "\ncapacity_bytes = 65_536\nsize = 3"),),
        False,
    ),
    "misspelt table": ((("\n[clock]", "\n[clok]"),), False),
    "wrong type": ((("\nrows = 16", '\nrows = "16"'),), False),
    "out of range": ((("\nrows = 16", "\nrows = 0"),), False),
    "unknown choice": ((('\ndataflow = "ws"', '\ndataflow = "xs"'),), False),
    "unknown quantiser": ((('#gradient = "luq"', 'gradient = "lug"'),), False),
    "unknown key of a quantiser": ((('#gradient = "luq"', 'gradient = { name = "luq", bits = 2 }'),), False),
    "unknown mode of rounding": ((('mode = "stochastic"', 'mode = "stochstic"'),), False),
    "no figure": ((("\nregister_pj_per_bit = 0.003", '\nregister_pj_per_bit = "x"'),), False),
}


@pytest.mark.parametrize("case", CHANGES)
def test_the_schema_agrees_with_what_loads(case):
    changes, valid = CHANGES[case]
    text = example_text(*changes)
    schema = json_schema()
    assert accepts(schema, schema, tomllib.loads(text)) == valid
    if valid:
        assert hw_models.parse(text, "mine.toml") is not None
    else:
        with pytest.raises(hw_models.ProfileError):
            hw_models.parse(text, "mine.toml")


@pytest.mark.parametrize("case", CHANGES)
def test_jsonschema_agrees_with_what_loads(case):
    changes, valid = CHANGES[case]
    assert validator().is_valid(tomllib.loads(example_text(*changes))) == valid


def test_every_key_has_a_description():
    schema = json_schema()
    for name, table in {"": schema, **schema["$defs"]}.items():
        for key, node in table.get("properties", {}).items():
            assert node.get("description"), f"{name}.{key}"


def test_the_schema_has_no_null_and_no_key_without_effect():
    assert "null" not in json_schema_text()
    assert json.loads(json_schema_text()) == json_schema()
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_level_of_the_memory_may_have_any_name():
    memory = json_schema()["$defs"]["Memory"]
    assert memory["additionalProperties"] == {"$ref": "#/$defs/OnChip"}
    assert memory["required"] == ["dram"]
