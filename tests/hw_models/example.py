"""The template's machine as the profile that tests of profiles change."""

import hw_models


def example_text(*changes: tuple[str, str]) -> str:
    """The text of the template with parts of it replaced; each part must occur."""
    text = hw_models.template("mine")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def example(*changes: tuple[str, str]) -> hw_models.HardwareProfile:
    return hw_models.parse(example_text(*changes), "mine.toml")


def line_of_text(text: str, start: str) -> int:
    """The line, counted from 1, that begins with a text."""
    return next(i for i, row in enumerate(text.split("\n"), start=1) if row.startswith(start))
