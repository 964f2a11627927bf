"""What a user waits for: imports, commands and the first training step, each in a process of its own.

Seconds of imports and commands are those of the whole process; `import torch`, in turn with them, is the baseline,
because whatever computes imports it. The first step is timed from the process's first line, `import torch` included;
cold is with an empty folder for numba's cache, warm with the folder that the cold run filled.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from benchmarks.first_step import ARMS, UNTIL_FIRST_STEP
from benchmarks.race import Contender, describe, race
from benchmarks.targets import Target, at_most_seconds

COMMAND = str(Path(sys.executable).parent / "lowbit-sim")
ROOT = Path(__file__).parent.parent

#: Name: the process, and what it should take.
PROCESSES: dict[str, tuple[list[str], list[Target]]] = {
    "import lowbit_sim": ([sys.executable, "-c", "import lowbit_sim"], [at_most_seconds(1.5)]),
    "import lowbit_sim, then use convert": ([sys.executable, "-c", "from lowbit_sim import convert"], []),
    "import hw_models": ([sys.executable, "-c", "import hw_models"], []),
    "lowbit-sim --help": ([COMMAND, "--help"], []),
    "lowbit-sim profiles list": ([COMMAND, "profiles", "list"], []),
}


def process(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a process to its end.

    Returns:
        What it printed.
    """
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
    return done.stdout


def test_import_is_lazy():
    """What makes the first row short."""
    loaded = process([sys.executable, "-c", "import lowbit_sim, sys; print('torch' in sys.modules)"])
    assert loaded.strip() == "False"


@pytest.mark.parametrize("name", PROCESSES)
def test_process(benchmark, name):
    command, targets = PROCESSES[name]
    race(
        benchmark,
        Contender(name=name, run=lambda: process(command), ours=True),
        against=Contender(name="import torch", run=lambda: process([sys.executable, "-c", "import torch"])),
        work="start of a process",
        targets=targets,
        seconds=1.0,
    )


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """`cold(arm)`: a folder of numba's that was empty before an arm's first step, and what that step took."""

    @cache
    def run(arm: str) -> tuple[str, dict]:
        folder = str(tmp_path_factory.mktemp("numba"))
        return folder, first_step(arm, folder)

    return run


@pytest.mark.parametrize("arm", ARMS)
def test_first_step_cold(benchmark, cold, arm):
    measured = cold(arm)[1]
    assert any("compiling" in part for part in measured), "an empty cache, and nothing was compiled"
    put_down(benchmark, arm, "cold", [measured], at_most_seconds(20))


@pytest.mark.parametrize("arm", ARMS)
def test_first_step_warm(benchmark, cold, arm):
    measured = [first_step(arm, cold(arm)[0]) for _ in range(3)]
    assert not any("compiling" in part for one in measured for part in one), "compiled despite the cache"
    put_down(benchmark, arm, "warm", measured, at_most_seconds(3))


def first_step(arm: str, folder: str) -> dict[str, float]:
    """Seconds by part of `first_step.py` with numba's cache in the folder."""
    printed = process([sys.executable, "-m", "benchmarks.first_step", arm], {"NUMBA_CACHE_DIR": folder})
    return json.loads(printed)


def put_down(benchmark, arm: str, state: str, measured: list[dict[str, float]], target: Target) -> None:
    """The row of an arm; parts are those of its shortest run."""
    totals = [sum(one[part] for part in UNTIL_FIRST_STEP) for one in measured]
    contender = Contender(name=f"ResNet-20, {arm}", run=lambda: None, ours=True)
    describe(benchmark, contender, work=f"first training step, {state} numba cache", targets=[target])
    benchmark.extra_info.update(seconds=totals, parts=measured[totals.index(min(totals))])
    benchmark.pedantic(contender.run, rounds=1)
