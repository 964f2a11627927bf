"""Reads profiles, and says what is wrong with one: file, key, value and what would be right."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hw_models.profile import HardwareProfile
from hw_models.tables import nested_table
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
    if not isinstance(profile, str | Path):
        raise TypeError(
            f"a profile is a name or the path of a .toml file, got {profile!r}; names are "
            f"{', '.join(profile_names())}"
        )
    if isinstance(profile, Path) or profile.endswith(".toml") or Path(profile).name != profile:
        return parse(_read(Path(profile)), str(profile))
    if profile not in profile_names():
        raise ProfileError(unknown("profile", profile, profile_names()) + " (or pass a path to a .toml file)")
    file = resources.files("hw_models") / "profiles" / f"{profile}.toml"
    return parse(file.read_text(encoding="utf-8"), f"{profile}.toml")


def parse(text: str, where: str) -> HardwareProfile:
    """The profile that a TOML text describes.

    Args:
        text: The content of a profile.
        where: Name of the file, for messages.

    Raises:
        ProfileError: Invalid TOML or an invalid profile; the message has a line for each thing that is wrong.
    """
    try:
        return HardwareProfile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(_toml_message(text, where, str(error))) from None
    except ValidationError as error:
        raise ProfileError("\n".join(f"{where}: {_message(dict(e))}" for e in error.errors())) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ProfileError(
            f"can't read the profile {path}: {reason}; a profile is a .toml file or one of the names "
            f"{', '.join(profile_names())}"
        ) from None


def _toml_message(text: str, where: str, reason: str) -> str:
    place = re.search(r"\(at line (\d+), column \d+\)", reason)
    line = text.splitlines()[int(place.group(1)) - 1].strip() if place else "the end of the file"
    hint = "; each key and each table may appear once" if "overwrite" in reason or "twice" in reason else ""
    return f"{where}: not valid TOML at {line!r}: {reason}{hint}"


def _message(error: dict[str, Any]) -> str:
    location: tuple[str | int, ...] = error["loc"]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        return f"{key}: " + unknown("key", location[-1], _model_at(location[:-1]).model_fields)
    if error["type"] == "missing":
        field = _model_at(location[:-1]).model_fields[str(location[-1])]
        return f"{key}: missing ({field.description})"
    # A check of ours carries its own words; pydantic would put "Value error" in front of them.
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    if isinstance(error["input"], dict | list | BaseModel):
        return f"{key}: {reason}" if key else reason
    return f"{key} = {error['input']!r}: {reason}" + _meaning(location)


def _meaning(location: tuple[str | int, ...]) -> str:
    # Under `sources` a key stands for a citation, not for the figure that it cites.
    table = None if "sources" in location else _model_at(location[:-1])
    field = table and table.model_fields.get(str(location[-1]))
    return f" ({field.description})" if field else ""


def _model_at(location: tuple[str | int, ...]) -> type[BaseModel]:
    """The table that a location (keys and list indices) lies in."""
    model: type[BaseModel] = HardwareProfile
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = nested_table(model.model_fields[part]) or model
    return model
