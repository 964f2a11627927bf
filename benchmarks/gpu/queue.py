"""The queue: one list of modules, in the order in which their tasks run.

A module has `TASKS`, and is importable where optional packages are missing; what a task needs beside `task.ALWAYS` it
names in `needs`, and imports within its work. Checks come first, then benchmarks, then training studies.
"""

from __future__ import annotations

from benchmarks.gpu import (
    bench_gemm,
    bench_quantisers,
    bench_steps,
    calibration,
    check_distributed,
    check_gemm,
    check_graphs,
    check_products,
    check_quantisers,
    check_training_step,
    ghn_arms,
    study_arms,
)
from benchmarks.gpu.task import Task

MODULES = (
    check_products,
    check_quantisers,
    check_gemm,
    check_training_step,
    check_graphs,
    check_distributed,
    calibration,
    bench_quantisers,
    bench_gemm,
    bench_steps,
    study_arms,
    ghn_arms,
)


def queue() -> dict[str, Task]:
    """All tasks by name, in the order in which they run.

    Raises:
        ValueError: Two tasks of one name, whose records would be one file.
    """
    tasks = [task for module in MODULES for task in module.TASKS]
    named = {task.name: task for task in tasks}
    if len(named) < len(tasks):
        names = [task.name for task in tasks]
        raise ValueError(f"two tasks are called {next(n for n in names if names.count(n) > 1)!r}")
    return named
