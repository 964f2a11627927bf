"""Parse the command line and run the queue or one task."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch

import benchmarks.gpu
from benchmarks.gpu.archive import write_archive
from benchmarks.gpu.preflight import preflight
from benchmarks.gpu.queue import queue
from benchmarks.gpu.runner import listing, run_queue, run_task
from benchmarks.gpu.task import TO_BE_CONTINUED, Task


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; gives the exit status."""
    tasks = queue()
    chosen = _parser(tasks).parse_args(arguments)
    if chosen.list:
        print(listing(list(tasks.values())))
        return 0
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was run (`--list` shows what is pending)", file=sys.stderr)
        return 1
    if chosen.preflight:
        if (why := preflight()) is not None:
            print(why, file=sys.stderr)
        return 0 if why is None else 1
    if not chosen.task:
        return _run(tasks, chosen)
    task = tasks[chosen.task]
    if (why := task.why_not()) is not None:
        print(f"{task.name}: {why}", file=sys.stderr)
        return 1
    return 0 if run_task(task, min(chosen.seconds, task.seconds)) else TO_BE_CONTINUED


def _run(tasks: dict[str, Task], chosen: argparse.Namespace) -> int:
    try:
        return run_queue(list(tasks.values()), again=chosen.again, only=chosen.only, seconds=chosen.seconds)
    finally:
        if chosen.archive is not None:
            write_archive(chosen.archive)


def _parser(tasks: dict[str, Task]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(benchmarks.gpu.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--list", action="store_true", help="show the queue and what is recorded")
    parser.add_argument("--task", choices=tasks, help="run one task, or a piece of it, in this process")
    parser.add_argument(
        "--again", choices=tasks, action="append", default=[], help="run a recorded task anew"
    )
    parser.add_argument(
        "--only",
        choices=tasks,
        action="append",
        default=[],
        help="run this task and no other; may be repeated",
    )
    parser.add_argument("--preflight", action="store_true", help="only try what the tasks need")
    parser.add_argument(
        "--archive", type=Path, metavar="FILE.tar.gz", help="at the end pack records and small states of runs"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help=f"stop after about so many seconds; exit status {TO_BE_CONTINUED} says that there is more to do",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
