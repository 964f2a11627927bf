"""Reads profiles, and says what is wrong with one: file, line, key, value and what would be right."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hw_models.expected import expected
from hw_models.findings import Finding
from hw_models.profile import HardwareProfile
from hw_models.schema.fields import table_at
from hw_models.toml_lines import line_of, toml_lines
from lowbit_sim.config.mac_config import with_product_files
from lowbit_sim.config.problems import Problem, problems
from lowbit_sim.numerics.suggest import unknown


class ProfileError(ValueError):
    """A profile that does not exist or does not say what a profile must say."""


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the package, sorted."""
    files = (resources.files("hw_models") / "profiles").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load(profile: str | Path) -> HardwareProfile:
    """The profile of a name (see `profile_names`) or of a file.

    Args:
        profile: A name, or a path: anything with a directory in it or ending in .toml.

    Raises:
        ProfileError: An unknown name, a file that can't be read or an invalid profile.
        TypeError: Neither a string nor a path.
    """
    path = profile_path(profile)
    return parse(
        profile_toml(path),
        path.name if isinstance(profile, str) and _is_name(profile) else str(profile),
        path.parent,
    )


def profile_path(profile: str | Path) -> Path:
    """The file of a profile.

    Args:
        profile: As for `load`.

    Raises:
        ProfileError: An unknown name.
        TypeError: Neither a string nor a path.
    """
    if not isinstance(profile, str | Path):
        raise TypeError(
            f"a profile is a name or the path of a .toml file, got {profile!r}; names are "
            f"{', '.join(profile_names())}"
        )
    if isinstance(profile, Path) or not _is_name(profile):
        return Path(profile)
    if profile not in profile_names():
        raise ProfileError(unknown("profile", profile, profile_names()) + " (or pass a path to a .toml file)")
    return Path(str(resources.files("hw_models") / "profiles" / f"{profile}.toml"))


def _is_name(profile: str) -> bool:
    return not profile.endswith(".toml") and Path(profile).name == profile


def parse(text: str, where: str, folder: Path = Path()) -> HardwareProfile:
    """The profile that a TOML text describes.

    Args:
        text: The content of a profile.
        where: Name of the file, for messages.
        folder: What relative paths of files of products are relative to.

    Raises:
        ProfileError: Invalid TOML or an invalid profile; the message has a line for each thing that is wrong.
    """
    profile, findings = read(text, folder)
    if profile is None:
        raise ProfileError("\n".join(finding.at(where) for finding in findings))
    return profile


def read(text: str, folder: Path = Path()) -> tuple[HardwareProfile | None, list[Finding]]:
    """The profile that a text describes, or None and what is wrong with it.

    Args:
        text: The content of a profile.
        folder: As for `parse`.
    """
    try:
        table = with_product_files(tomllib.loads(text), folder)
    except tomllib.TOMLDecodeError as error:
        return None, [_toml_finding(text, str(error))]
    try:
        return HardwareProfile.model_validate(table), []
    except ValidationError as error:
        lines = toml_lines(text)
        return None, [_finding(problem, lines) for problem in problems(error, HardwareProfile)]


def profile_toml(path: Path) -> str:
    """The text of a profile's file.

    Raises:
        ProfileError: It can't be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ProfileError(
            f"can't read the profile {path}: {reason}; a profile is a .toml file or one of the names "
            f"{', '.join(profile_names())}"
        ) from None


def _toml_finding(text: str, reason: str) -> Finding:
    place = re.search(r" \(at line (\d+), column \d+\)", reason)
    rows = text.splitlines()
    number = int(place.group(1)) if place else max(len(rows), 1)
    row = repr(rows[number - 1].strip()) if place else "the end of the file"
    reason = reason.replace(place.group(), "") if place else reason.replace(" (at end of document)", "")
    hint = "; each key and each table may appear once" if "overwrite" in reason or "twice" in reason else ""
    message = f"not valid TOML at {row}: {reason}{hint}"
    return Finding(severity="error", key="", line=number, message=message)


def _finding(problem: Problem, lines: dict[tuple[str | int, ...], int]) -> Finding:
    key = ".".join(map(str, problem.location))
    message = _message(problem, key)
    return Finding(severity="error", key=key, line=line_of(lines, problem.location), message=message)


def _message(problem: Problem, key: str) -> str:
    table = table_at(problem.root, problem.inner[:-1])
    if problem.kind == "extra_forbidden":
        return f"{key}: " + unknown("key", problem.location[-1], table.model_fields)
    if problem.kind == "missing":
        return f"{key}: missing{_meaning(table, problem)}"
    if not problem.is_about_a_value:
        return f"{key}: {problem.reason}" if key else problem.reason
    wanted = expected(problem.root, problem.inner, problem.kind)
    reason = wanted or f"{problem.reason}{_meaning(table, problem)}"
    return f"{key} = {written(problem.value)}: {reason}"


def written(value: Any) -> str:
    """A value as TOML writes it, where it writes it otherwise than Python."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _meaning(table: type[BaseModel], problem: Problem) -> str:
    # Under `sources` a key stands for a citation, not for the figure that it cites.
    field = None if "sources" in problem.inner else table.model_fields.get(str(problem.inner[-1]))
    return f" ({field.description})" if field and field.description else ""
