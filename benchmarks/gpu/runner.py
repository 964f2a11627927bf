"""Runs the tasks of the queue, each in a process of its own, and keeps their records."""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.preflight import start_preflight
from benchmarks.gpu.rows import FILE, rows_in
from benchmarks.gpu.task import RECORDS, ROOT, TO_BE_CONTINUED, Record, Task, tell

#: What a piece may need beyond its seconds: to load its data, and to end its epoch.
GRACE_SECONDS = 90

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
    taken = {"limit_s": seconds, "wall_seconds": round(time.time() - started, 1)}
    _write(records, {"task": task.name, **known, **done, **taken})
    return True


def _write(records: Path, record: Record) -> None:
    """Written whole or not at all: a record is never half a file."""
    records.mkdir(parents=True, exist_ok=True)
    unfinished = records / f".{record['task']}.partial"
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(unfinished, records / f"{record['task']}.json")


def start_process(task: Task, seconds: int, records: Path = RECORDS) -> int | None:
    """Run a task in a process of its own, ended with all that it started; the rows of one that fails stay."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--task", task.name, "--seconds", str(seconds)]
    grace = GRACE_SECONDS if task.in_pieces else 0
    records.mkdir(parents=True, exist_ok=True)
    rows = records / f".{task.name}.rows"
    rows.unlink(missing_ok=True)
    code = _in_a_group(command, seconds + grace, {**os.environ, FILE: str(rows)})
    if code not in (0, TO_BE_CONTINUED) and (found := rows_in(rows)):
        ended = "out of time" if code is None else f"failed with code {code}"
        known = {"task": task.name, "environment": environment(), "limit_s": seconds}
        _write(records, {**known, "complete": False, "ended": ended, "rows": found})
    rows.unlink(missing_ok=True)
    return code


def _in_a_group(command: Sequence[str], seconds: float, variables: dict[str, str]) -> int | None:
    """Run a command in a session of its own; the exit status, or None where the time was over and it was killed."""
    process = subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Ranks and compilers that it started hold the device, also where it ended itself.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def run_queue(
    tasks: Sequence[Task],
    *,
    again: Collection[str] = (),
    only: Collection[str] = (),
    seconds: float = math.inf,
    records: Path = RECORDS,
    start: Start = start_process,
    preflight: Callable[[], str | None] = start_preflight,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run every task without a record, once it is known that the installation works.

    Args:
        tasks: The queue.
        again: Names of tasks that are to run although they have a record.
        only: Names of the tasks to run; all, if left out.
        seconds: End this call of the queue after so many seconds: tasks get what is left, where that is enough for
            them. No study is started while a check or a benchmark waits for the next call.
        records: Folder of the records.
        start: Runs a process.
        preflight: Why nothing can run here, or None.
        clock: Seconds, for the time that is left.

    Returns:
        The exit status: 0, 1 where a task failed, `TO_BE_CONTINUED` where one has to go on.
    """
    end = clock() + seconds
    if (why := preflight()) is not None:
        tell(f"nothing was run: {why}")
        return 1
    outcomes: list[str] = []
    for task in tasks:
        if only and task.name not in only:
            continue
        if task.in_pieces and _WAITS in outcomes:
            outcomes.append(_told(task, "left for the next call: others come first", _CONTINUES))
        else:
            outcomes.append(_outcome(task, task.name in again, records, start, lambda: end - clock()))
    return 1 if "failed" in outcomes else TO_BE_CONTINUED if {_WAITS, _CONTINUES} & {*outcomes} else 0


#: Outcomes of a check or a benchmark that has no time, and of a study's arm that is not at its end.
_WAITS, _CONTINUES = "waits", "to be continued"


def _outcome(task: Task, again: bool, records: Path, start: Start, left: Callable[[], float]) -> str:
    """What became of a task, which is also told."""
    if not again and is_recorded(task, records):
        return _told(task, "recorded already", "recorded")
    if (why := task.why_not()) is not None:
        return _told(task, f"skipped: {why}", "skipped")
    while True:
        limit = int(min(task.seconds, left() - (GRACE_SECONDS if task.in_pieces else 0)))
        if limit < task.least:
            return _told(task, "left for the next call: no time", _CONTINUES if task.in_pieces else _WAITS)
        _told(task, f"running, {'a piece of' if task.in_pieces else 'at most'} {limit} s", "")
        code = start(task, limit)
        if code == 0:
            return _ended(task, records)
        if code != TO_BE_CONTINUED:
            return _told(task, "out of time" if code is None else f"failed with code {code}", "failed")


def _ended(task: Task, records: Path) -> str:
    record = _record(task, records) or {}
    failed = record.get("failed_rows", 0)
    rows = f", {failed} rows failed" if failed else ""
    if not record or is_recorded(task, records):
        return _told(task, f"recorded{rows}", "recorded")
    return _told(task, f"recorded in part{rows}: goes on with more time", _WAITS)


def _record(task: Task, records: Path) -> dict[str, Any] | None:
    path = records / f"{task.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def is_recorded(task: Task, records: Path) -> bool:
    """Whether a task's record is all that it gives: complete, or without an error and made in its whole time."""
    if (record := _record(task, records)) is None:
        return False
    whole_time = record.get("limit_s", 0) >= task.seconds and not record.get("ended", "").startswith("failed")
    return record.get("complete", True) or whole_time


def _told(task: Task, text: str, outcome: str) -> str:
    tell(f"{task.name}: {text}")
    return outcome


def listing(tasks: Sequence[Task], records: Path = RECORDS) -> str:
    """The queue, a line a task: what is recorded, pending, or can't run here, and why."""
    lines = []
    for task in tasks:
        why = task.why_not()
        part = "pending" if _record(task, records) is None else "in part"
        state = "recorded" if is_recorded(task, records) else "skipped" if why is not None else part
        limit = f"{task.seconds} s" + (" a piece" if task.in_pieces else "")
        reason = f" ({why})" if state == "skipped" else ""
        lines.append(f"{task.name:48} {state:8} {limit:13} {task.summary}{reason}")
    return "\n".join(lines)
