"""Peak memory of training steps, each arm in a process of its own (`peak_memory.py`, `peak_memory_metagrad.py`)."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from benchmarks.race import Contender, describe
from benchmarks.targets import Target
from benchmarks.test_metagrad import HYPERNETWORKS
from benchmarks.test_training_step import ARMS, NATIVE

ROOT = Path(__file__).parent.parent
WORK = "peak memory of a training step, small VGG, batch 64"


@cache
def peak_bytes(module: str, arm: str) -> int:
    """What two steps add to the process's resident memory at its peak."""
    command = [sys.executable, "-m", f"benchmarks.{module}", arm]
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
    benchmark.extra_info["peak_bytes"] = benchmark.pedantic(peak_bytes, args=("peak_memory", arm), rounds=1)


@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
def test_peak_memory_of_metagrad(benchmark, hypernetwork):
    """Of a net of 4.3 million weights; "none" is the plain step, and no target was set."""
    contender = Contender(name=hypernetwork, run=lambda: None, ours=True)
    describe(benchmark, contender, work="peak memory of an INT4 step with MetaGrad, 4.3M weights", targets=[])
    bytes_now = benchmark.pedantic(peak_bytes, args=("peak_memory_metagrad", hypernetwork), rounds=1)
    benchmark.extra_info["peak_bytes"] = bytes_now
