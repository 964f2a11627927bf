"""The reference layers of `data/scalesim_cases.csv`."""

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Case:
    dataflow: str
    rows: int
    cols: int
    M: int
    N: int
    K: int
    schedule_cycles: int
    mapping_eff_pct: float
    lhs_reads: int
    rhs_reads: int
    result_writes: int


def _read() -> list[Case]:
    lines = (Path(__file__).parent / "data" / "scalesim_cases.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    kinds = {"dataflow": str, "mapping_eff_pct": float}
    return [Case(**{key: kinds.get(key, int)(value) for key, value in row.items()}) for row in rows]


CASES = _read()
