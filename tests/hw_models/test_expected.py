import pytest

import hw_models
from hw_models.expected import expected
from hw_models.profile import HardwareProfile

TEMPLATE = hw_models.template("box")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("result_bits = 0", "arithmetic.result_bits = 0: expected an integer > 0"),
        ("result_bits = 2.5", "arithmetic.result_bits = 2.5: expected an integer > 0"),
        ('result_bits = "x"', "arithmetic.result_bits = 'x': expected an integer > 0"),
        ("result_bits = true", "arithmetic.result_bits = true: expected an integer > 0"),
    ],
)
def test_a_bound_is_told_with_key_and_value_alone(key, message):
    text = TEMPLATE.replace("[arithmetic]\n", f"[arithmetic]\n{key}\n")
    with pytest.raises(hw_models.ProfileError) as error:
        hw_models.parse(text, "box.toml")
    assert str(error.value).partition(": ")[2] == message


def test_what_the_schema_tells_of_a_value():
    assert expected(HardwareProfile, ("vector", "fuses"), "bool_type") == "expected true or false"
    assert expected(HardwareProfile, ("machine", "name"), "string_type") == "expected text"
    assert expected(HardwareProfile, ("array", "rows"), "greater_than") == "expected an integer > 0"


def test_what_it_does_not_tell():
    assert expected(HardwareProfile, ("array", "rows"), "missing") == ""
    assert expected(HardwareProfile, ("array", "sources", "rows"), "string_type") == ""
    assert expected(HardwareProfile, (), "int_type") == ""
