"""Files that a study or a command writes: JSON and texts, whole or not at all."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from hw_models.load import profile_path
from lowbit_sim.study.errors import StudyError


def profile_text(name: str) -> str:
    """The TOML text of a profile: the file of a path, or the packaged one of a name."""
    return profile_path(name).read_text(encoding="utf-8")


def require_writable(path: Path) -> None:
    """Find out before hours of work whether `write_text` will be able to write a file; leaves no trace.

    Raises:
        StudyError: It will not.
    """
    if path.is_dir():
        raise StudyError(f"can't write {path}: it is a folder; expected a file's name")
    partial = _partial(path)
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> StudyError:
    """The error of a file that the system refuses, by the file's own name and without the system's number."""
    if not path.parent.exists():
        return StudyError(f"can't write {path}: there is no folder {path.parent}; make it or name another")
    return StudyError(f"can't write {path}: {error.strerror or error}")


def _partial(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(path.name + ".partial")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        StudyError: The file can't be written.
    """
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        StudyError: The file can't be written.
    """
    partial = _partial(path)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def plain(value: Any) -> Any:
    """Numbers that JSON has no spelling for (a loss that is infinite) as null."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
