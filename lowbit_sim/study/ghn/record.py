"""Reads the records of hypernetwork studies, and tells them from those of `lowbit-sim compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.results import KIND, GhnResult, ghn_result
from lowbit_sim.study.ghn.tables import markdown, parse_choice, table


def is_ghn_record(path: Path) -> bool:
    """Whether a file or a run folder holds such a record; what can't be read is none."""
    file = path / "result.json" if path.is_dir() else path
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("kind") == KIND


def read_ghn_result(path: Path) -> GhnResult:
    """The result in a file, or in a run folder.

    Raises:
        StudyError: A file that can't be read, or that is no record of `lowbit-sim ghn`.
    """
    file = path / "result.json" if path.is_dir() else path
    if not is_ghn_record(file):
        raise StudyError(
            f"{file} is not a record of lowbit-sim ghn: give what its --json wrote, or the result.json of its run "
            "folder"
        )
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    try:
        return ghn_result(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{file} is a damaged record of lowbit-sim ghn: {type(error).__name__} {error}"
        ) from None


def marked_table(path: Path, words: list[str]) -> str:
    """The Markdown table that a page's mark asks for.

    Args:
        path: The record.
        words: What stands behind the record's name in the mark.

    Raises:
        StudyError: As `read_ghn_result`, or words that ask for no table.
    """
    result = read_ghn_result(path)
    name, choice = parse_choice(result, words)
    return markdown(table(result, name, choice))
