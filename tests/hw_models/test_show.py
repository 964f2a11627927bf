"""The tables say what the summary says, without a figure cut off."""

import io

import pytest
from rich.console import Console

import hw_models
from hw_models.show import is_unvalidated, list_table, machine_tables
from hw_models.summary import summary
from tests.hw_models.example import example, example_text


def shown(renderable) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_machine_is_shown():
    text = shown(machine_tables(summary(example())))
    for part in (
        "mine",
        "An 8-bit systolic array",
        "22 nm, 0.8 V, 1,000 MHz",
        "16 x 16, weight-stationary (ws)",
        "16 G operations/s",
        "integer, 8 bits",
        "0.512",
        "2 x 128 KiB",
        "1 x 1024 bits",
        "int8 stochastic x int8 -> 32-bit wrap",
        "35 of 35 numbers are assumptions.",
        "Validation: not validated: example figures",
    ):
        assert part in text, part
    assert "area" not in text


def test_a_range_is_nominal_with_its_ends():
    figure = '{ low = 4.0, nominal = 8.0, high = 16.5, low_source = "x", high_source = "y" }'
    text = shown(machine_tables(summary(example(("read_pj_per_bit = 8.0", f"read_pj_per_bit = {figure}")))))
    assert "8 (4..16.5)" in text


def test_a_level_that_is_whole_is_no_two_halves():
    text = shown(machine_tables(summary(example(("#double_buffered = true", "double_buffered = false")))))
    assert "256 KiB" in text
    assert "2 x 128 KiB" not in text


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_no_figure_of_a_profile_is_cut_off(name):
    assert "…" not in shown(machine_tables(summary(hw_models.load(name))))


def test_the_list_names_every_machine_and_whether_it_was_compared():
    compared = example_text(
        ('validation = "not validated', 'validation = "cycles of five GEMMs, once not validated')
    )
    text = shown(list_table([example(), hw_models.parse(compared.replace("mine", "other"), "other.toml")]))
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert rows["mine"].split()[-2] == "no"
    assert rows["other"].split()[-2] == "yes"


@pytest.mark.parametrize(
    ("validation", "unvalidated"), [("not validated: an example", True), ("cycles of RTL", False)]
)
def test_a_profile_says_itself_that_it_is_not_validated(validation, unvalidated):
    assert is_unvalidated(validation) is unvalidated
