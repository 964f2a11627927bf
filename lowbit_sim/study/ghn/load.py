"""Reads and writes the files of hypernetwork studies, and says what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import hw_models
from lowbit_sim.config.mac_config import with_product_files
from lowbit_sim.config.toml_text import toml_value
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import GhnStudy
from lowbit_sim.study.load_study import messages, read_table

#: The tables of a study, in the order in which they are written.
_TABLES = ("data", "space", "hypernetwork", "training", "evaluation", "fine_tuning")


def load_ghn_study(path: Path) -> GhnStudy:
    """The study of a file. Profiles given as relative paths are relative to the file's folder.

    Raises:
        StudyError: A file that can't be read, is not TOML or not such a study, or names what does not exist; the
            message has a line for each thing that is wrong.
    """
    return parse_ghn_study(read_table(path), str(path), path.parent)


def parse_ghn_study(table: dict[str, Any], where: str, folder: Path) -> GhnStudy:
    """The study of a table.

    Args:
        table: What a TOML file holds.
        where: Name of the file, for messages.
        folder: What relative paths are relative to.

    Raises:
        StudyError: As `load_ghn_study`.
    """
    if "model" in table and "space" not in table:
        raise StudyError(
            f"{where} is a study of `lowbit-sim compare`: it has a [model] and no [space] of networks"
        )
    try:
        study = GhnStudy.model_validate(with_product_files(table, folder))
    except ValidationError as error:
        raise StudyError("\n".join(f"{where}: {each}" for each in messages(error, GhnStudy))) from None
    study = with_profiles(study, lambda name: _resolved(name, folder))
    for number, name in enumerate(study.profiles):
        try:
            hw_models.load(name)
        except hw_models.ProfileError as error:
            raise StudyError(f"{where}: profiles[{number}] = {name!r}: {error}") from None
    return study


def with_profiles(study: GhnStudy, rename: Callable[[str], str]) -> GhnStudy:
    """The study with every profile's name replaced by `rename(name)`."""
    return study.model_copy(update={"profiles": tuple(rename(name) for name in study.profiles)})


def _resolved(name: str, folder: Path) -> str:
    """A profile's name as it is; a file's path from the study's folder."""
    is_file = name.endswith(".toml") or Path(name).name != name
    return str(folder / name) if is_file else name


def ghn_study_toml(study: GhnStudy) -> str:
    """The study as TOML text, with its defaults, that `load_ghn_study` reads back to an equal study."""
    # TOML has no null: a key without a value is left out, and reads back as none.
    table = study.model_dump(exclude_none=True)
    lines = [f"{k} = {toml_value(v)}" for k, v in table.items() if k not in (*_TABLES, "arms")]
    for key in _TABLES:
        if key in table:
            lines += ["", f"[{key}]", *(f"{k} = {toml_value(v)}" for k, v in table[key].items())]
    for arm in table["arms"]:
        lines += ["", "[[arms]]", *(f"{k} = {toml_value(v)}" for k, v in arm.items())]
    return "\n".join(lines) + "\n"
