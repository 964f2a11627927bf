"""What is written reads back equal."""

import tomllib

import pytest

from lowbit_sim.config.toml_text import toml_value


@pytest.mark.parametrize(
    "value",
    [
        3,
        True,
        1e-06,
        'a "quote", a \\ and a tab\t',
        "\x7f and \U0001f600",
        [1, [2.5, "x"], []],
        {"a": 1, "b": {"c": [False]}},
        {},
    ],
    ids=str,
)
def test_a_value_reads_back_equal(value):
    assert tomllib.loads(f"key = {toml_value(value)}") == {"key": value}
