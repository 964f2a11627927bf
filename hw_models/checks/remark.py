"""What a check says, before its line is known."""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.findings import Severity


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One inconsistency.

    Attributes:
        location: The key to look at, as a path.
        message: What is wrong, and what would be right.
        severity: "error" where the machine could not run its own numerics.
    """

    location: tuple[str | int, ...]
    message: str
    severity: Severity = "warning"


def in_words(number: float) -> str:
    """A number with four digits and separators: 65,536; 0.0031."""
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.4g}"
