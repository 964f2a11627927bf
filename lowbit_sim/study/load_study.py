"""Reads and writes study files, and says what is wrong with one: file, key, value and what would be right."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

import hw_models
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.mac_config import MacTable, is_file
from lowbit_sim.study.tables import AnyTable, Strict, TableError

_Location = tuple[str | int, ...]


def default_study_path() -> Path:
    """The study that runs when none is named: four arms on scikit-learn's digits."""
    return Path(str(resources.files("lowbit_sim.study") / "studies" / "digits.toml"))


def load_study(path: Path) -> Study:
    """The study of a file. Profiles given as relative paths are relative to the file's folder.

    Raises:
        StudyError: A file that can't be read, is not TOML or not a study, or names what does not exist; the
            message has a line for each thing that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"can't read the study {path} ({error}): expected a TOML file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from None
    return parse_study(table, str(path), path.parent)


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
        study = Study.model_validate(_with_product_files(table, folder))
    except ValidationError as error:
        raise StudyError("\n".join(f"{where}: {line}" for line in _lines(error, Study))) from None
    study = with_profiles(study, lambda name: _resolved(name, folder))
    _check_profiles(study, where)
    return study


def _with_product_files(value: Any, folder: Path) -> Any:
    """A table with the paths of its files of products counted from a folder."""
    if isinstance(value, list | tuple):
        return [_with_product_files(inner, folder) for inner in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _with_product_files(v, folder) for key, v in value.items()}
    products = inner.get("products")
    if isinstance(products, str) and is_file(products):
        inner["products"] = str(folder / products)
    return inner


def _lines(error: ValidationError, root: type[BaseModel], place: _Location = ()) -> Iterator[str]:
    """A line for each thing that is wrong, also inside the tables that a validator has read by itself."""
    for each in error.errors():
        details: dict[str, Any] = dict(each)
        inner = details.get("ctx", {}).get("error")
        if isinstance(inner, TableError):
            yield from _lines(inner.error, inner.model, (*place, *details["loc"]))
        else:
            yield _message(details, root, place)


def _message(error: dict[str, Any], root: type[BaseModel], place: _Location) -> str:
    location: _Location = error["loc"]
    key, table = _dotted((*place, *location)), _dotted((*place, *location[:-1]))
    if error["type"] == "extra_forbidden":
        known = _model_at(root, location[:-1]).model_fields
        return f"{key}: " + unknown(f"key in {f'[{table}]' if table else 'the study'}", location[-1], known)
    if error["type"] == "missing":
        return f"{key}: this key is missing"
    # A check of ours carries its own words; pydantic would put "Value error" in front of them.
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    if isinstance(error["input"], dict | list | tuple | BaseModel):
        return f"{key}: {reason}" if key else reason
    return f"{key} = {error['input']!r}: {reason}"


def _dotted(location: _Location) -> str:
    """A key as a path: arms[1].grad_weight.lhs, with list positions counted from 0."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _model_at(root: type[BaseModel], location: _Location) -> type[BaseModel]:
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


def with_product_files(table: AnyTable, rename: Callable[[str], str]) -> AnyTable:
    """A study, or a part of one, with every file of products replaced by `rename(file)`."""
    if isinstance(table, MacTable) and is_file(table.products):
        return table.model_copy(update={"products": rename(table.products or "")})

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return with_product_files(value, rename) if isinstance(value, Strict) else value

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
    lines = [f"{key} = {_toml(value)}" for key, value in scalars.items()]
    for key in ("data", "model", "training"):
        lines += ["", f"[{key}]", *(f"{k} = {_toml(v)}" for k, v in table[key].items())]
    for arm in table["arms"]:
        named = {"name": arm["name"], **arm}  # a reader looks for the name first
        lines += ["", "[[arms]]", *(f"{k} = {_toml(v)}" for k, v in named.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's too, but for the escape of characters above U+FFFF.
    return json.dumps(value, ensure_ascii=False)
