"""A task of the queue, and why one can't run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "records" / "gpu"

Record = dict[str, Any]

#: What every task imports.
ALWAYS = ("torch", "numpy", "lazy_loader", "safetensors", "pyarrow", "PIL")

#: Told of what happens while a task runs; at once, also through a pipe.
tell = partial(print, flush=True)

#: Exit status of a process that ended a piece (EX_TEMPFAIL).
TO_BE_CONTINUED = 75


#: Seconds below which a task is not worth its start: torch and the device alone take some.
LEAST_SECONDS = 30


def _available() -> None:
    """Nothing stands against the task."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work.

    Attributes:
        name: Its name, and its record's file.
        summary: What it is, in a line.
        seconds: The most that its process is given; of a task in pieces, when a piece stops at its next epoch's end.
        least: With fewer seconds it is not started.
        work: Does it, given the seconds of a piece; gives its record, or None where another piece is to follow.
        needs: Modules beside `ALWAYS`.
        in_pieces: Whether it can stop and go on.
        refusal: Why it can't run on a CUDA device yet, or None. Called only where its modules are there.
    """

    name: str
    summary: str
    seconds: int
    work: Callable[[float], Record | None]
    needs: tuple[str, ...] = ()
    least: int = LEAST_SECONDS
    in_pieces: bool = False
    refusal: Callable[[], str | None] = _available

    def why_not(self) -> str | None:
        """Why it can't run here, or None: modules that are missing, or what the code has not got yet."""
        missing = [module for module in (*ALWAYS, *self.needs) if find_spec(module) is None]
        if missing:
            return f"needs {', '.join(missing)}, not installed here"
        why = self.refusal()
        return None if why is None else f"not available: {why}"
