"""Reads and writes study files, and says what is wrong with one: file, key, value and what would be right."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

import hw_models
from lowbit_sim.config.mac_config import MacTable, is_file, with_product_files
from lowbit_sim.config.problems import Location, Problem, problems
from lowbit_sim.config.tables import AnyTable, Strict
from lowbit_sim.config.toml_text import toml_value
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.errors import StudyError


def default_study_path() -> Path:
    """The study that runs when none is named: four arms on scikit-learn's digits."""
    return Path(str(resources.files("lowbit_sim.study") / "studies" / "digits.toml"))


def load_study(path: Path) -> Study:
    """The study of a file. Profiles given as relative paths are relative to the file's folder.

    Raises:
        StudyError: A file that can't be read, is not TOML or not a study, or names what does not exist; the
            message has a line for each thing that is wrong.
    """
    table = read_table(path)
    if "hypernetwork" in table:
        raise StudyError(f"{path} is a study of graph hypernetworks: lowbit-sim ghn run {path}")
    return parse_study(table, str(path), path.parent)


def read_table(path: Path) -> dict[str, Any]:
    """What a study's TOML file holds, of whichever kind it is.

    Raises:
        StudyError: A file that can't be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise StudyError(f"can't read the study {path} ({why}): expected a TOML file") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from None


def parse_study(table: dict[str, Any], where: str, folder: Path) -> Study:
    """The study of a table.

    Args:
        table: What a TOML file holds.
        where: Name of the file, for messages.
        folder: What relative paths of profiles and of files of products are relative to.

    Raises:
        StudyError: As `load_study`.
    """
    try:
        study = Study.model_validate(with_product_files(table, folder))
    except ValidationError as error:
        raise StudyError("\n".join(f"{where}: {each}" for each in messages(error, Study))) from None
    study = with_profiles(study, lambda name: _resolved(name, folder))
    _check_profiles(study, where)
    return study


def messages(error: ValidationError, root: type[BaseModel], what: str = "the study") -> list[str]:
    """A line for each thing that is wrong in a table.

    Args:
        error: What pydantic found.
        root: The type of the table that it was to read.
        what: What that table is, in words.
    """
    return [_message(problem, what) for problem in problems(error, root)]


def _message(problem: Problem, what: str) -> str:
    key, table = _dotted(problem.location), _dotted(problem.location[:-1])
    if problem.kind == "extra_forbidden":
        known = _model_at(problem.root, problem.inner[:-1]).model_fields
        return f"{key}: " + unknown(f"key in {f'[{table}]' if table else what}", problem.inner[-1], known)
    if problem.kind == "missing":
        return f"{key}: this key is missing"
    if not problem.is_about_a_value:
        return f"{key}: {problem.reason}" if key else problem.reason
    return f"{key} = {problem.value!r}: {problem.reason}"


def _dotted(location: Location) -> str:
    """A key as a path: arms[1].grad_weight.lhs, with list positions counted from 0."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _model_at(root: type[BaseModel], location: Location) -> type[BaseModel]:
    """The table that a location in a table of type `root` lies in."""
    model = root
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_tables(model.model_fields[part].annotation), model)
    return model


def _tables(annotation: Any) -> Any:
    """The table types inside an annotation such as `GemmTable | None` or `tuple[ArmTable, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables(inner)


def profile_references(study: Study) -> list[tuple[str, str]]:
    """(key, profile) of every place where a study names a profile."""
    places = [(f"profiles[{i}]", name) for i, name in enumerate(study.profiles)]
    for i, arm in enumerate(study.arms):
        tables = [(f"arms[{i}]", arm), *((f"arms[{i}].rules[{j}]", rule) for j, rule in enumerate(arm.rules))]
        places += [(f"{key}.profile", table.profile) for key, table in tables if table.profile is not None]
    return places


def with_profiles(study: Study, rename: Callable[[str], str]) -> Study:
    """The study with every profile's name replaced by `rename(name)`."""

    def arm(table: ArmTable) -> ArmTable:
        rules = tuple(r.model_copy(update={"profile": r.profile and rename(r.profile)}) for r in table.rules)
        return table.model_copy(update={"profile": table.profile and rename(table.profile), "rules": rules})

    profiles = tuple(rename(name) for name in study.profiles)
    return study.model_copy(update={"profiles": profiles, "arms": tuple(map(arm, study.arms))})


def renamed_product_files(table: AnyTable, rename: Callable[[str], str]) -> AnyTable:
    """A study, or a part of one, with every file of products replaced by `rename(file)`."""
    if isinstance(table, MacTable) and is_file(table.products):
        return table.model_copy(update={"products": rename(table.products or "")})

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return renamed_product_files(value, rename) if isinstance(value, Strict) else value

    return table.model_copy(update={name: changed(getattr(table, name)) for name in type(table).model_fields})


def _resolved(name: str, folder: Path) -> str:
    """A profile's name as it is; a file's path from the study's folder."""
    is_file = name.endswith(".toml") or Path(name).name != name
    return str(folder / name) if is_file else name


def _check_profiles(study: Study, where: str) -> None:
    for key, name in profile_references(study):
        try:
            hw_models.load(name)
        except hw_models.ProfileError as error:
            raise StudyError(f"{where}: {key} = {name!r}: {error}") from None


def study_toml(study: Study) -> str:
    """The study as TOML text, with its defaults, that `load_study` reads back to an equal study."""
    # TOML has no null: a key without a value is left out, and reads back as none.
    table = study.model_dump(exclude_none=True)
    scalars = {key: value for key, value in table.items() if key not in ("data", "model", "training", "arms")}
    lines = [f"{key} = {toml_value(value)}" for key, value in scalars.items()]
    for key in ("data", "model", "training"):
        lines += ["", f"[{key}]", *(f"{k} = {toml_value(v)}" for k, v in table[key].items())]
    for arm in table["arms"]:
        named = {"name": arm["name"], **arm}  # a reader looks for the name first
        lines += ["", "[[arms]]", *(f"{k} = {toml_value(v)}" for k, v in named.items())]
    return "\n".join(lines) + "\n"
