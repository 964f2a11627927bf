"""Peak memory of a training step of the small VGG, batch 64, each arm in a process of its own (`peak_memory.py`)."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from benchmarks.race import Contender, describe
from benchmarks.targets import Target
from benchmarks.test_training_step import ARMS, NATIVE

ROOT = Path(__file__).parent.parent
WORK = "peak memory of a training step, small VGG, batch 64"


@cache
def peak_bytes(arm: str) -> int:
    """What two steps add to the process's resident memory at its peak."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", arm]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)["peak_bytes"]


@pytest.mark.parametrize("arm", [NATIVE, *ARMS])
def test_peak_memory(benchmark, arm):
    targets = (
        []
        if arm == NATIVE or "saturating" in arm
        else [Target(quantity="peak_bytes", limit=1.5, against=NATIVE)]
    )
    describe(benchmark, Contender(name=arm, run=lambda: None, ours=arm != NATIVE), work=WORK, targets=targets)
    benchmark.extra_info["peak_bytes"] = benchmark.pedantic(peak_bytes, args=(arm,), rounds=1)
