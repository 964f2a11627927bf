"""From pytest-benchmark's JSON to a table and a record: `python benchmarks/summarize.py IN.json OUT.json`."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: The benchmark of each group that the others are divided by.
BASELINES = ("native_float32", "memory_copy", "qtorch_stochastic")


def summarize(report: dict[str, Any]) -> dict[str, Any]:
    """The record: machine, versions and, by group, each benchmark's median, spread and ratio to the baseline."""
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for bench in report["benchmarks"]:
        stats = bench["stats"]
        name = bench["name"].removeprefix("test_")
        groups.setdefault(bench["group"], {})[name] = {
            "median_s": stats["median"],
            "iqr_s": stats["iqr"],
            "rounds": stats["rounds"],
        }
    for rows in groups.values():
        base = next((name for name in rows if any(b in name for b in BASELINES)), next(iter(rows)))
        for row in rows.values():
            row["ratio"] = row["median_s"] / rows[base]["median_s"]
    return {
        "when": report["datetime"],
        "machine": {
            "processor": report["machine_info"]["cpu"].get("brand_raw", platform.processor()),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "groups": groups,
    }


def table(record: dict[str, Any]) -> Table:
    """The record as a table."""
    shown = Table(title="Speed: medians, and ratios within a group (lower is faster)")
    for column in ("work", "implementation", "median", "spread (IQR)", "ratio"):
        shown.add_column(column, justify="left" if column in ("work", "implementation") else "right")
    for group, rows in record["groups"].items():
        for i, (name, row) in enumerate(rows.items()):
            shown.add_row(
                group if i == 0 else "",
                Text(name),  # not markup: a parameter stands in brackets
                f"{row['median_s'] * 1e3:.2f} ms",
                f"{row['iqr_s'] * 1e3:.2f} ms",
                f"{row['ratio']:.2f}",
            )
        shown.add_section()
    return shown


def main() -> None:
    """Read pytest-benchmark's report, print the table, write the record."""
    source, target = map(Path, sys.argv[1:3])
    record = summarize(json.loads(source.read_text()))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    Console(width=120).print(table(record))


if __name__ == "__main__":
    main()
