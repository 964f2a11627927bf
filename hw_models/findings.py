"""What there is to say about a profile: an error or a warning with its key and line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a profile.

    Attributes:
        severity: "error" for what is no profile or can't run, "warning" for what can't be meant.
        key: The key as a path with dots; "" for the whole file.
        line: Its line, or that of the table in which it is missing.
        message: The key, what is wrong, and what would be right.
    """

    severity: Severity
    key: str
    line: int
    message: str

    def at(self, where: str) -> str:
        """The message behind the file and the line, as compilers write it."""
        return f"{where}:{self.line}: {self.message}"
