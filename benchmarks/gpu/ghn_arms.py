"""Arms of the hypernetwork study in `experiments/` that is sized for an accelerator, each a task in resumable pieces.

An arm trains its hypernetworks, tests them on the held-out networks and fine-tunes from their predictions, into one
run folder under `runs/gpu/`. Every arm needs our kernels on the device, as the networks are tested quantised: without
Triton it is said to be not available, and why.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.kept_data import kept_data, why_no_data
from benchmarks.gpu.study_arms import EXPERIMENTS, LEAST_PIECE_SECONDS, PIECE_SECONDS, RUNS
from benchmarks.gpu.task import Record, Task, tell

#: The study.
STUDY = EXPERIMENTS / "ghn_cifar10.toml"


def tasks(path: Path = STUDY) -> list[Task]:
    """A task for each arm."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_task(path, table, arm) for arm in table["arms"]]


def _task(path: Path, table: Mapping[str, Any], arm: Mapping[str, Any]) -> Task:
    name = arm["name"]
    return Task(
        name=f"{path.stem}-{re.sub('[^a-z0-9]+', '_', name.lower()).strip('_')}",
        summary=f"Arm {name} of {path.name}, {len(table['seeds'])} seed{'s' * (len(table['seeds']) > 1)}.",
        seconds=PIECE_SECONDS,
        work=partial(run_arm, path, name),
        needs=("pydantic", "numba"),
        in_pieces=True,
        least=LEAST_PIECE_SECONDS,
        refusal=partial(_refusal, table["data"]),
    )


def _refusal(data: Mapping[str, Any]) -> str | None:
    """Why no arm can run on a CUDA device, or None."""
    if (why := why_no_data(data)) is not None:
        return why
    if not torch.cuda.is_available():
        return None
    from lowbit_sim.quant.quantizer import missing_kernel

    return missing_kernel(torch.device("cuda"))


def run_arm(
    path: Path, name: str, seconds: float, *, device: str = "cuda", out: Path = RUNS
) -> Record | None:
    """A piece of an arm's runs with all seeds.

    Args:
        path: The study's file.
        name: The arm.
        seconds: Stop after the first epoch, network or fine-tuning after so many.
        device: "cuda", or "cpu" to try it.
        out: Folder of the run folders.

    Returns:
        The record of the study so far, or None where the arm has not come to its end.
    """
    from lowbit_sim.study.ghn.load import load_ghn_study
    from lowbit_sim.study.ghn.run import Progress, run_ghn_study
    from lowbit_sim.training.device import find_device

    def on_progress(progress: Progress) -> None:
        tell(f"{progress.text}: {progress.done} of {progress.total}")

    with kept_data(out / "data"):
        outcome = run_ghn_study(
            load_ghn_study(path),
            out=out,
            arms=[name],
            device=find_device(device),
            time_limit_s=seconds,
            tell=tell,
            on_progress=on_progress,
        )
    if outcome.out_of_time:
        return None
    if outcome.result.status == "interrupted":
        raise KeyboardInterrupt
    return outcome.folder.record(outcome.result)


TASKS = tasks()
