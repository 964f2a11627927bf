"""The rows of a record: one that fails or comes too late says so and leaves the others; each is kept as it comes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.task import Record, tell

#: Environment variable with the file to which a task's rows are also written, one a line, while it runs.
FILE = "LOWBIT_GPU_ROWS"

#: The share of a task's seconds after which no row is begun.
_SHARE = 0.8

NO_TIME = "no time left"


class Rows:
    """Collects rows, tells each, and guards the others against it.

    Args:
        seconds: The task's time, from now on.
        quiet: Whether only rows that failed, came too late or are not equal are told.
    """

    def __init__(self, seconds: float, *, quiet: bool = False) -> None:
        self.rows: list[Record] = []
        self._end = time.monotonic() + _SHARE * seconds
        self._quiet = quiet

    def add(self, known: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> Record:
        """A row: what is known of it before, and what the work gives or raises.

        Out of time the work is not done, and the row has "refused"; an error of the work is in "failed".
        """
        if time.monotonic() > self._end:
            return self._kept({**known, "refused": NO_TIME})
        try:
            return self._kept({**known, **work()})
        except Exception as error:  # compilers and drivers raise types of their own
            return self._kept({**known, "failed": f"{type(error).__name__}: {error}"[:600]})

    def record(self, **more: Any) -> Record:
        """The record; `complete` is false where a row was left out for lack of time."""
        complete = not any(row.get("refused") == NO_TIME for row in self.rows)
        failed = sum("failed" in row for row in self.rows)
        return {"complete": complete, "failed_rows": failed, **more, "rows": self.rows}

    def all(self, key: str) -> bool:
        """Whether every row has a true value there; one that failed or came too late has none."""
        return bool(self.rows) and all(row.get(key, False) for row in self.rows)

    def _kept(self, row: Record) -> Record:
        self.rows.append(row)
        if not self._quiet or row.keys() & {"refused", "failed"} or not row.get("equal", True):
            tell(json.dumps(row))
        if (path := os.environ.get(FILE)) is not None:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return row


def rows_in(path: Path) -> list[Record]:
    """The rows that a process wrote before it ended; a last line that it had not finished is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
