"""Runs the tasks of the queue, each in a process of its own, and keeps their records."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import torch

from benchmarks.gpu.task import RECORDS, ROOT, TO_BE_CONTINUED, Record, Task, tell

#: What a piece may need beyond its seconds: to load its data, and to end its epoch.
GRACE_SECONDS = 120

#: Runs a process of a task for so many seconds; its exit status, or None where it ran out of time.
Start = Callable[[Task, int], int | None]


def environment() -> Record:
    """The machine and the versions that a record holds for."""
    device = torch.cuda.get_device_properties(0)
    return {
        "device": device.name,
        "device_memory_gib": round(device.total_memory / 2**30, 1),
        "multiprocessors": device.multi_processor_count,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def run_task(task: Task, seconds: float, records: Path = RECORDS) -> bool:
    """Run a task here, or a piece of it, and write its record; whether it came to its end."""
    started = time.time()
    done = task.work(seconds)
    if done is None:
        return False
    known = {} if "environment" in done else {"environment": environment()}
    record = {"task": task.name, **known, **done, "wall_seconds": round(time.time() - started, 1)}
    records.mkdir(parents=True, exist_ok=True)
    # Written whole or not at all: a record that exists is complete.
    unfinished = records / f".{task.name}.partial"
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(unfinished, records / f"{task.name}.json")
    return True


def start_process(task: Task, seconds: int) -> int | None:
    """Run a task in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--task", task.name, "--seconds", str(seconds)]
    grace = GRACE_SECONDS if task.in_pieces else 0
    try:
        return subprocess.run(command, cwd=ROOT, timeout=seconds + grace).returncode
    except subprocess.TimeoutExpired:
        return None


def run_queue(
    tasks: Sequence[Task],
    *,
    again: Container[str] = (),
    seconds: float = math.inf,
    records: Path = RECORDS,
    start: Start = start_process,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run every task without a record.

    Args:
        tasks: The queue.
        again: Names of tasks that are to run although they have a record.
        seconds: End this call of the queue after so many seconds: no task is started that would run longer, and the
            pieces of others are that much shorter.
        records: Folder of the records.
        start: Runs a process.
        clock: Seconds, for the time that is left.

    Returns:
        The exit status: 0, 1 where a task failed, `TO_BE_CONTINUED` where one has to go on.
    """
    end = clock() + seconds
    outcomes = [_outcome(task, task.name in again, records, start, lambda: end - clock()) for task in tasks]
    return 1 if "failed" in outcomes else TO_BE_CONTINUED if "to be continued" in outcomes else 0


def _outcome(task: Task, again: bool, records: Path, start: Start, left: Callable[[], float]) -> str:
    """What became of a task, which is also told."""
    if not again and (records / f"{task.name}.json").exists():
        return _told(task, "recorded already", "recorded")
    if (why := task.why_not()) is not None:
        return _told(task, f"skipped: {why}", "skipped")
    while True:
        limit = int(min(task.seconds, left()))
        if limit < (1 if task.in_pieces else task.seconds):
            return _told(task, "left for the next call: no time", "to be continued")
        _told(task, f"running, {'a piece of' if task.in_pieces else 'at most'} {limit} s", "")
        code = start(task, limit)
        if code == 0:
            return _told(task, "recorded", "recorded")
        if code != TO_BE_CONTINUED:
            return _told(task, "out of time" if code is None else f"failed with code {code}", "failed")


def _told(task: Task, text: str, outcome: str) -> str:
    tell(f"{task.name}: {text}")
    return outcome


def listing(tasks: Sequence[Task], records: Path = RECORDS) -> str:
    """The queue, a line a task: what is recorded, pending, or can't run here, and why."""
    lines = []
    for task in tasks:
        why = task.why_not()
        recorded = (records / f"{task.name}.json").exists()
        state = "recorded" if recorded else "skipped" if why is not None else "pending"
        limit = f"{task.seconds} s" + (" a piece" if task.in_pieces else "")
        reason = f" ({why})" if state == "skipped" else ""
        lines.append(f"{task.name:48} {state:8} {limit:13} {task.summary}{reason}")
    return "\n".join(lines)
