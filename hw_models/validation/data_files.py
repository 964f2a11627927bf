"""Reads the reference tables in `data`; its README says where each comes from."""

from __future__ import annotations

import csv
from importlib import resources


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a table by the names of its columns.

    Args:
        name: A file of `hw_models/validation/data`.
    """
    text = (resources.files("hw_models.validation") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def silicon_rows(design: str) -> list[dict[str, str]]:
    """The rows of RTL and silicon whose design begins with a name.

    Args:
        design: Begin of the column `design`, as "Eyeriss".
    """
    return [row for row in read_rows("silicon_rtl_points.csv") if row["design"].startswith(design)]
