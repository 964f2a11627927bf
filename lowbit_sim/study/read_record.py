"""Reads what `compare` wrote; of a file that is no record it says which key is wrong, and what belongs there.

Only what is read of a record is asked for, so that records of a time before a key can still be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowbit_sim.study.errors import StudyError

#: What would be right.
EXPECTED = "give what compare --json wrote, or the result.json of a run folder"

_TEXT, _WHOLE, _NUMBER = "a text", "a whole number", "a number"
_TYPES: dict[str, tuple[type, ...]] = {_TEXT: (str,), _WHOLE: (int,), _NUMBER: (int, float)}

_RUN = {"seed": _WHOLE, "status": _TEXT, "steps": _WHOLE, "epochs": [{"test_accuracy": _NUMBER}]}
_COST = {"seconds": _NUMBER, "energy_pj": _NUMBER}
_PRICE = {"machine": _TEXT, "refusal": _TEXT, "cost": (_COST, None)}

#: The form of a record: tables by key, lists by what each element is, and in brackets what may be null.
_RECORD: dict[str, Any] = {"arms": [{"name": _TEXT, "runs": [_RUN], "prices": [_PRICE]}]}


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file, or in a run folder.

    Raises:
        StudyError: A file that can't be read, is cut off, or is no record.
    """
    file = path / "result.json" if path.is_dir() else path
    record = _json(file)
    require_record(record, str(file))
    return record


def _json(path: Path) -> Any:
    if not path.exists():
        raise StudyError(f"can't read the record {path}: there is no such file; {EXPECTED}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise StudyError(
            f"can't read the record {path}: it is cut off or no JSON ({place}); {EXPECTED}"
        ) from None
    except UnicodeDecodeError:
        raise StudyError(f"can't read the record {path}: it is no text in UTF-8; {EXPECTED}") from None
    except OSError as error:
        raise StudyError(f"can't read the record {path}: {error.strerror or error}") from None


def require_record(record: object, name: str) -> None:
    """Make sure that a value has the form of a record.

    Args:
        record: The value.
        name: Where it is from, for the message.

    Raises:
        StudyError: It has not; the message names the first key that is missing or holds something else.
    """
    found = _wrong(record, _RECORD, "")
    if found:
        raise StudyError(f"{name} is not a record of lowbit-sim compare: {found}; {EXPECTED}")


def _wrong(value: object, form: Any, place: str) -> str:
    """What is wrong in a value, or ""."""
    if isinstance(form, tuple):
        return "" if value is None else _wrong(value, form[0], place)
    if isinstance(form, dict):
        if not isinstance(value, Mapping):
            return _holds(place, value, "a table of keys")
        return next(filter(None, (_wrong_key(value, key, inner, place) for key, inner in form.items())), "")
    if isinstance(form, list):
        if not isinstance(value, list):
            return _holds(place, value, "a list")
        each = (_wrong(inner, form[0], f"{place}[{i}]") for i, inner in enumerate(value))
        return next(filter(None, each), "")
    fits = isinstance(value, _TYPES[form]) and not isinstance(value, bool)
    return "" if fits else _holds(place, value, form)


def _wrong_key(table: Mapping[str, Any], key: str, form: Any, place: str) -> str:
    below = f"{place}.{key}" if place else key
    return _wrong(table[key], form, below) if key in table else f"it has no {below}"


def _holds(place: str, value: object, expected: str) -> str:
    return f"{place or 'the file'} holds {_in_words(value)} where {expected} belongs"


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list) else json.dumps(value, ensure_ascii=False, default=repr)
