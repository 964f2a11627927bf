"""Finds what is inconsistent in a profile, with the line of each key: more than a profile must be to be read.

Errors are what `load` refuses, and numerics that the machine's array can't multiply. Warnings are what can be and
can hardly be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hw_models.checks.effects import check_effects
from hw_models.checks.logic_energy import check_logic_energy
from hw_models.checks.memories import check_memories
from hw_models.checks.modes import check_modes
from hw_models.checks.numerics import check_numerics
from hw_models.checks.remark import Remark
from hw_models.checks.values import check_values
from hw_models.findings import Finding
from hw_models.load import read
from hw_models.profile import HardwareProfile
from hw_models.toml_lines import line_of, toml_lines

#: The checks, in the order of reading; a new one is a line here.
CHECKS: tuple[Callable[[HardwareProfile], Iterator[Remark]], ...] = (
    check_modes,
    check_numerics,
    check_memories,
    check_values,
    check_logic_energy,
    check_effects,
)


def check(text: str, folder: Path = Path()) -> list[Finding]:
    """What is wrong with a profile, in the order of its lines.

    Args:
        text: Its TOML text.
        folder: What relative paths of files of products are relative to.
    """
    profile, findings = read(text, folder)
    if profile is None:
        return sorted(findings, key=lambda finding: finding.line)
    lines = toml_lines(text)
    found = [_finding(remark, lines) for run in CHECKS for remark in run(profile)]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.line)


def _finding(remark: Remark, lines: dict[tuple[str | int, ...], int]) -> Finding:
    key = ".".join(map(str, remark.location))
    return Finding(
        severity=remark.severity,
        key=key,
        line=line_of(lines, remark.location),
        message=f"{key}: {remark.message}",
    )
