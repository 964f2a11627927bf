"""The numerics of a layer from the command line, or from a file that holds one table of a study."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import messages
from lowbit_sim.study.numerics_config import NumericsTable, op_spec


def spec_of_options(options: dict[str, Any]) -> OpSpec:
    """The numerics from the keys of a study's table (`numerics_config.NumericsTable`), None for not given.

    Raises:
        StudyError: Keys that contradict each other, or values that can't be.
    """
    try:
        table = NumericsTable(**{key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        raise StudyError("\n".join(messages(error, NumericsTable, "the numerics"))) from None
    spec = op_spec(table)
    if spec is None:
        raise StudyError("native float32 has no codes and accumulators to show")
    return spec


def spec_of_file(path: Path) -> OpSpec:
    """The numerics from a TOML file with the keys of a study's table.

    Raises:
        StudyError: A file that can't be read, or as `spec_of_options`.
    """
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"can't read the numerics {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise StudyError(f"can't read the numerics {path}: it is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"can't read the numerics {path}: not valid TOML: {error}") from None
    try:
        return spec_of_options(options)
    except StudyError as error:
        raise StudyError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
