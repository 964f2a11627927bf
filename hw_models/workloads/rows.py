"""The rows of a comma-separated file, with the numbers of their lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_models.workloads.errors import WorkloadError


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a file.

    Attributes:
        where: File and line, for messages.
        cells: Its cells, without blanks around them; the empty one behind a last comma is left out.
    """

    where: str
    cells: Sequence[str]

    def whole(self, cell: str, what: str, least: int = 1) -> int:
        """A cell as a whole number.

        Raises:
            WorkloadError: It is none, or too small.
        """
        try:
            value = int(cell)
        except ValueError:
            raise WorkloadError(f"{self.where}: {what} is a whole number, got {cell!r}") from None
        if value < least:
            raise WorkloadError(f"{self.where}: {what} must be at least {least}, got {value}")
        return value


def read_rows(path: Path) -> Iterator[Row]:
    """The lines of a file that hold something, the header first.

    Raises:
        WorkloadError: A file that is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: not a text file: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.split(",")]
        while cells and not cells[-1]:
            cells.pop()
        if cells and not cells[0].startswith("#"):
            yield Row(where=f"{path}, line {number}", cells=cells)
