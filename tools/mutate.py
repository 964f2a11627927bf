"""Does the suite notice when the arithmetic is wrong? Breaks one line at a time and runs the tests that must fail.

    python tools/mutate.py [--only WORDS] [--list]

Each mutation of `mutants.py` is made in a temporary copy of the repository, never in place. First the named tests
must pass there unchanged. Exit code 0: every mutant was caught; 1: one survived; 2: the check itself is broken (a
text that is not found exactly once, tests that fail unchanged, a mutant that can't even be imported).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mutants import MUTANTS, Mutant
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent

#: What the tests need of the repository.
_COPIED = ("lowbit_sim", "hw_models", "tests", "pyproject.toml")

#: Seconds after which a run counts as hanging, which a mutant may do.
_LIMIT = 900

CAUGHT, SURVIVED, BROKEN = "caught", "survived", "broken"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        mutant: The mutant.
        verdict: "caught", "survived" or "broken".
        detail: The first test that failed, or what went wrong.
        seconds: How long its tests ran.
    """

    mutant: Mutant
    verdict: str
    detail: str
    seconds: float


def misplaced(mutants: list[Mutant], root: Path) -> list[str]:
    """Mutations whose old text does not stand exactly once in its file, or whose test files are missing, in words."""
    wrong = []
    for mutant in mutants:
        path = root / mutant.file
        count = path.read_text(encoding="utf-8").count(mutant.old) if path.exists() else 0
        if count != 1:
            wrong.append(f"{mutant.name}: the old text stands {count} times in {mutant.file}, expected once")
        wrong += [f"{mutant.name}: no file {test}" for test in mutant.tests if not (root / test).exists()]
    return wrong


def run_tests(copy: Path, tests: tuple[str, ...], cache: Path) -> tuple[int, str]:
    """Exit code of pytest and the first failure (or the last line that it printed)."""
    environment = {
        **os.environ,
        # Byte code and machine code of one mutant must not be another's: numba looks at the time and size of the
        # file that holds a kernel, not at those of the functions that were compiled into it.
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": str(copy),
        "CI": "1",  # derandomised examples, so that a verdict can be repeated
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=_LIMIT
        )
    except subprocess.TimeoutExpired:
        return 1, f"hung for {_LIMIT} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, (lines or done.stdout.splitlines() or [done.stderr[-200:]])[-1]


def judge(mutant: Mutant, copy: Path, shared_cache: Path) -> Outcome:
    """Make the mutation, run its tests, take it back."""
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    compiled = "import numba" in text
    cache = Path(tempfile.mkdtemp(dir=copy.parent)) if compiled else shared_cache
    started = time.monotonic()
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, detail = run_tests(copy, mutant.tests, cache)
    finally:
        path.write_text(text, encoding="utf-8")
        if compiled:
            shutil.rmtree(cache)
    # 1: tests failed. Anything else but 0 says that they could not run.
    failed_to_import = detail.startswith("ERROR")
    verdict = SURVIVED if code == 0 else CAUGHT if code == 1 and not failed_to_import else BROKEN
    return Outcome(mutant=mutant, verdict=verdict, detail=detail, seconds=time.monotonic() - started)


def copied(folder: Path) -> Path:
    """A copy of the repository in a folder."""
    copy = folder / "repository"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignore)
        else:
            shutil.copy(source, copy / name)
    return copy


def table_of(outcomes: list[Outcome]) -> Table:
    """The outcomes, one a row."""
    table = Table(title="Mutants", header_style="bold")
    for heading in ("mutation", "file", "verdict", "s", "noticed by"):
        table.add_column(heading, overflow="fold")
    style = {CAUGHT: "green", SURVIVED: "bold red", BROKEN: "bold magenta"}
    for o in outcomes:
        noticed = o.detail.removeprefix("FAILED ").split(" - ")[0] if o.verdict == CAUGHT else o.detail
        file = o.mutant.file.removeprefix("lowbit_sim/")
        table.add_row(o.mutant.name, file, f"[{style[o.verdict]}]{o.verdict}", f"{o.seconds:.0f}", noticed)
    return table


def check(mutants: list[Mutant], console: Console) -> int:
    """Run the mutants; the exit code."""
    wrong = misplaced(mutants, ROOT)
    if wrong:
        console.print("\n".join(wrong), style="bold magenta", markup=False)
        return 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy, cache = copied(folder), folder / "numba"
        tests = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
        console.print(f"{len(mutants)} mutants; first the tests unchanged: {len(tests)} files")
        code, detail = run_tests(copy, tests, cache)
        if code:
            console.print(f"the tests fail unchanged: {detail}", style="bold magenta", markup=False)
            return 2
        outcomes = []
        for number, mutant in enumerate(mutants, 1):
            outcomes.append(judge(mutant, copy, cache))
            console.print(f"{number}/{len(mutants)} {outcomes[-1].verdict}: {mutant.name}", markup=False)
    console.print(table_of(outcomes))
    verdicts = {o.verdict for o in outcomes}
    return 2 if BROKEN in verdicts else 1 if SURVIVED in verdicts else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Break the arithmetic, one line at a time, and see the tests fail."
    )
    parser.add_argument(
        "--only", metavar="WORDS", default="", help="mutants whose name or file contains this"
    )
    parser.add_argument("--list", action="store_true", help="name them and stop")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if arguments.only in m.name or arguments.only in m.file]
    console = Console() if sys.stdout.isatty() else Console(width=140)
    if arguments.list:
        for mutant in chosen:
            console.print(f"{mutant.file}: {mutant.name}", markup=False)
        return 0
    if not chosen:
        console.print(f"no mutant has {arguments.only!r} in its name or file", markup=False)
        return 2
    return check(chosen, console)


if __name__ == "__main__":
    sys.exit(main())
