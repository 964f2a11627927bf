"""What is inconsistent in a profile is found, with the line of its key."""

import pytest

import hw_models
from hw_models.check import check
from hw_models.load import profile_path, profile_toml
from tests.hw_models.example import example_text, line_of_text


def remarks(*changes: tuple[str, str]) -> list[str]:
    return [f"{f.severity}: {f.at('mine.toml')}" for f in check(example_text(*changes))]


def test_a_consistent_profile_gives_none():
    assert remarks() == []


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_no_profile_of_the_package_has_an_error(name):
    path = profile_path(name)
    errors = [f.at(name) for f in check(profile_toml(path), path.parent) if f.severity == "error"]
    assert errors == []


def test_what_is_no_profile_is_an_error_with_its_line():
    text = example_text(("\nrows = 16", "\nrows = 0"), ("\nlanes = 16", "\nlanes = 0"))
    findings = check(text)
    assert [(f.severity, f.key, f.line) for f in findings] == [
        ("error", "array.rows", line_of_text(text, "rows = 0")),
        ("error", "vector.lanes", line_of_text(text, "lanes = 0")),
    ]


def test_findings_come_in_the_order_of_the_lines_with_their_keys():
    changes = (
        ('format = "int8"', 'format = "int8"\naccumulator_bits = 16'),
        ("frequency_hz = 1_000_000_000", "frequency_hz = 1_000"),
    )
    text = example_text(*changes)
    findings = check(text)
    assert [f.key for f in findings][:2] == ["clock.frequency_hz", "arithmetic.accumulator_bits"]
    for finding in findings:
        assert finding.message.startswith(f"{finding.key}: ")
        assert finding.severity == "warning"
    assert findings[0].line == line_of_text(text, "frequency_hz = 1_000")
    assert findings[1].line == line_of_text(text, "accumulator_bits = 16")


def test_a_remark_about_a_key_that_is_left_out_has_the_line_of_its_table():
    changes = (
        ("\nrows = 16", "\nrows = 262_144"),
        ("capacity_bytes = 262_144", "capacity_bytes = 1_000_000_000"),
    )
    text = example_text(*changes)
    (finding,) = [f for f in check(text) if f.key == "arithmetic.accumulator_bits"]
    assert finding.line == line_of_text(text, "[arithmetic]")


def test_every_message_says_what_would_be_right():
    """The third part of a message: a colon or a semicolon before the advice."""
    for changes in (
        (('format = "int8"', 'format = "int8"\naccumulator_bits = 16'),),
        (("frequency_hz = 1_000_000_000", "frequency_hz = 1_000"),),
        (("\nrandom_bits_per_cycle = 128", "\nrandom_bits_per_cycle = 1"),),
        (("bandwidth_bytes_per_second = 16_000_000_000", "bandwidth_bytes_per_second = 1_000_000"),),
    ):
        (remark, *_) = remarks(*changes)
        assert any(mark in remark.partition(": ")[2] for mark in (": ", "; ")), remark
