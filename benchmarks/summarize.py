"""From pytest-benchmark's report to one table, to the record and to the documentation's page.

    python -m benchmarks.summarize REPORT.json RECORD.json     # prints the table, writes the record
    python -m benchmarks.summarize RECORD.json --update docs/performance.md

How a benchmark names itself. A benchmark of ours checks its result, then calls `race(benchmark, Contender(...),
against=baseline, work=..., case=..., targets=[...])` of `race.py`, which fills `benchmark.extra_info`:

| key | meaning |
|---|---|
| work, case | the row of the table, and which of its sizes or layers; all contenders of both stand together |
| implementation, ours | the contender's name; whether it is this project's |
| baseline | name and seconds of the baseline's rounds, run in turn with the contender's |
| moved_bytes, macs | bytes read and written, multiply-accumulates: for bandwidth and throughput |
| peak_bytes | peak memory, where that is the question |
| parts | seconds of what a time consists of |
| seconds | times measured inside a process that the benchmark starts; they replace the benchmark's own |
| targets | of `targets.py`: `at_most_time(1.15, "torch._int_mm")`, `at_least_bandwidth(0.5, "memory copy")`, ... |

What can't be raced calls `describe(benchmark, ...)`, sets what it measured in `extra_info` and runs as usual. A
peer is imported by the fixture `peer`, which makes a row "not installed" where it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.rows import Row, Work, works_of
from benchmarks.table import HEADINGS, lines, markdown, without_repeats
from benchmarks.targets import Target

PACKAGES = ("torch", "numpy", "numba", "qtorch", "brevitas", "torchao")

_MARKED = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.DOTALL)


def record_of(report: dict[str, Any]) -> dict[str, Any]:
    """The record: machine, versions, and every work with its rows."""
    import torch

    processor = report["machine_info"]["cpu"]
    return {
        "when": report["datetime"],
        "statistic": "ratios of shortest rounds; contender and baseline in turn, in one process",
        "machine": {
            "processor": processor.get("brand_raw", platform.processor()),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "instructions": [
                f for f in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if f in processor["flags"]
            ],
            "load_average": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "works": [asdict(work) for work in works_of(report)],
    }


def _versions() -> dict[str, str]:
    installed = {dist.name.lower(): dist.version for dist in metadata.distributions() if dist.name}
    return {name: installed.get(name, "not installed") for name in PACKAGES}


def works_in(record: dict[str, Any]) -> list[Work]:
    """The works of a record that was read back."""
    return [Work(**{**work, "rows": tuple(map(_row, work["rows"]))}) for work in record["works"]]


def _row(fields: dict[str, Any]) -> Row:
    return Row(**{**fields, "targets": tuple(Target(**target) for target in fields["targets"])})


def table(works: list[Work]) -> Table:
    """The table for a terminal."""
    shown = Table(title="Ratios of shortest rounds to the baseline, which is 1 (lower is faster)")
    for heading in HEADINGS:
        shown.add_column(heading, overflow="fold")
    for i, cells in enumerate(without_repeats(lines(works))):
        if i and cells[0]:
            shown.add_section()
        shown.add_row(*map(Text, cells))
    return shown


def updated_page(page: str, record: dict[str, Any]) -> str:
    """The page with the record's table between its markers.

    Raises:
        ValueError: If the page has no markers.
    """
    if not _MARKED.search(page):
        raise ValueError(
            "the page has no '<!-- benchmarks -->' and '<!-- end of benchmarks -->' around a table"
        )
    content = f"{_caption(record)}\n\n{markdown(works_in(record))}"
    return _MARKED.sub(lambda found: f"{found[1]}{content}{found[2]}", page)


def _caption(record: dict[str, Any]) -> str:
    machine, versions = record["machine"], record["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores{instructions}, "
        f"{machine['torch_threads']} threads; {packages}; {record['when'][:10]}. "
        f"Figures: {record['statistic']}."
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table of a report and write its record, or put a record's table into a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.summarize")
    parser.add_argument("source", type=Path, help="pytest-benchmark's report; with --update, a record")
    parser.add_argument("record", type=Path, nargs="?", help="where the record goes")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="the page whose table is made anew")
    given = parser.parse_args(arguments)
    content = json.loads(given.source.read_text(encoding="utf-8"))
    record = content if "works" in content else record_of(content)
    if given.record:
        given.record.parent.mkdir(parents=True, exist_ok=True)
        given.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if given.update:
        page = given.update.read_text(encoding="utf-8")
        given.update.write_text(updated_page(page, record), encoding="utf-8")
    Console(width=180).print(table(works_in(record)))


if __name__ == "__main__":
    main()
