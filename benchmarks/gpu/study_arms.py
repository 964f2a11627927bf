"""Arms of the studies in `experiments/` that are sized for an accelerator, each a task in resumable pieces.

Native arms run through the study's own code (`lowbit_sim.study.run`), into one run folder a study under `runs/gpu/`.
Where pydantic is missing, which a study's file is checked with, they are read plainly instead (`plain_arm`), and
the record says so. Emulated arms are in the queue too: where the device has no kernels of ours (without Triton) they
are said to be not available, with the reason that `compare --device cuda` gives.

Runs that ended stay in `runs/gpu/` until all arms of their study have: delete that folder to train one anew.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.kept_data import kept_data, why_no_data
from benchmarks.gpu.task import ROOT, Record, Task, tell
from lowbit_sim.study.native_arms import NATIVE_MODES

if TYPE_CHECKING:
    from lowbit_sim.training.metrics import EpochMetrics

EXPERIMENTS = ROOT / "experiments"

#: Studies sized for an hour, whose arms take turns in the order of their files; and those of days, native arms
#: first.
SHORT = ("one_h200_vgg16.toml", "one_h200_resnet20.toml")
STUDIES = ("metagrad_resnet20_cifar10.toml", "metagrad_vgg16_cifar10.toml")

#: Where runs and their checkpoints are; git ignores it.
RUNS = ROOT / "runs" / "gpu"

#: Folder of the decoded data within it.
_DATA = "data"

#: A piece stops at the end of its first epoch after so many seconds.
PIECE_SECONDS = 480

#: With less, most of a piece goes by before its first step.
LEAST_PIECE_SECONDS = 60


def tasks(paths: Sequence[Path] = tuple(EXPERIMENTS / name for name in STUDIES)) -> list[Task]:
    """A task for each arm of each study; native arms first, as they can run today."""
    native: list[Task] = []
    emulated: list[Task] = []
    for path in paths:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        for arm in table["arms"]:
            (native if is_plain(arm) else emulated).append(_task(path, table, arm))
    return [*native, *emulated]


def in_turns(paths: Sequence[Path]) -> list[Task]:
    """A task for each arm: the first of each study, then the second of each, and so on."""
    of_studies: list[list[Task]] = []
    for path in paths:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        of_studies.append([_task(path, table, arm) for arm in table["arms"]])
    return [task for turn in zip_longest(*of_studies) for task in turn if task is not None]


def is_plain(arm: Mapping[str, Any]) -> bool:
    """Whether an arm's table says only that it is native, and with which hyperparameters."""
    native = arm.get("native")
    return (native is True or native in ("fp32", *NATIVE_MODES)) and arm.keys() <= {
        "name",
        "native",
        "training",
    }


def _task(path: Path, table: Mapping[str, Any], arm: Mapping[str, Any]) -> Task:
    name, plain = arm["name"], is_plain(arm)
    return Task(
        name=f"{path.stem}-{re.sub('[^a-z0-9]+', '_', name.lower()).strip('_')}",
        summary=f"Arm {name} of {path.name}, {len(table['seeds'])} seeds.",
        seconds=PIECE_SECONDS,
        work=partial(run_arm, path, name),
        needs=() if plain else ("pydantic",),
        in_pieces=True,
        least=LEAST_PIECE_SECONDS,
        refusal=partial(_refusal, path, name, table["data"]),
    )


def _refusal(path: Path, name: str, data: Mapping[str, Any]) -> str | None:
    """Why an arm can't run on a CUDA device, as the study's code says; without pydantic only plain arms get here."""
    if (why := why_no_data(data)) is not None:
        return why
    if find_spec("pydantic") is None or not torch.cuda.is_available():
        return None
    from lowbit_sim.study.load_study import load_study
    from lowbit_sim.study.selection import refusal

    arms = {arm.name: arm for arm in load_study(path).arms}
    return refusal(arms[name], torch.device("cuda"))


def run_arm(
    path: Path, name: str, seconds: float, *, device: str = "cuda", out: Path = RUNS
) -> Record | None:
    """A piece of an arm's runs with all seeds.

    Args:
        path: The study's file.
        name: The arm.
        seconds: Stop at the end of the first epoch after so many.
        device: "cuda", or "cpu" to try it.
        out: Folder of the run folders.

    Returns:
        The record of the study so far, or None where the arm has not come to its end.
    """
    work = _through_the_study if find_spec("pydantic") else _plainly
    with kept_data(out / _DATA):
        record = work(path, name, seconds, device=device, out=out)
    if record is None:
        _name_files(out)
    return record


def _plainly(path: Path, name: str, seconds: float, *, device: str, out: Path) -> Record | None:
    # Imported here, so that the queue can be shown where a module is missing.
    from benchmarks.gpu.plain_arm import run_plainly

    return run_plainly(path, name, seconds, device=device, out=out)


def _through_the_study(path: Path, name: str, seconds: float, *, device: str, out: Path) -> Record | None:
    from lowbit_sim.study.load_study import load_study
    from lowbit_sim.study.run import run_study
    from lowbit_sim.study.run_folder import RunFolder
    from lowbit_sim.training.device import find_device

    outcome = run_study(
        load_study(path),
        out=out,
        arms=[name],
        device=find_device(device),
        time_limit_s=seconds,
        tell=tell,
        on_epoch=lambda each: tell(epoch_line(each.arm, each.seed, each.metrics)),
    )
    if outcome.out_of_time:
        return None
    if outcome.result.status == "interrupted":
        raise KeyboardInterrupt
    return RunFolder(path=outcome.folder).record(outcome.result)


def epoch_line(arm: str, seed: int, metrics: EpochMetrics) -> str:
    """What is told of an epoch."""
    accuracy = f"{100 * metrics.test_accuracy:.2f} %"
    return f"{arm}, seed {seed}, epoch {metrics.epoch + 1}: test accuracy {accuracy}, {metrics.seconds:.1f} s"


def _name_files(out: Path) -> None:
    """Name what the next piece goes on from: a machine that does not keep this folder has to be given it."""
    # Tensors of the data are made again wherever they are missing.
    files = sorted(f for f in out.rglob("*") if f.is_file() and (out / _DATA) not in f.parents)
    size = sum(file.stat().st_size for file in files) / 2**20
    tell(f"the next piece goes on from {out}: {len(files)} files, {size:.1f} MiB; the largest are")
    for file in sorted(files, key=lambda file: -file.stat().st_size)[:3]:
        tell(f"  {file.relative_to(out)}, {file.stat().st_size / 2**20:.1f} MiB")


TASKS = [*in_turns([EXPERIMENTS / name for name in SHORT]), *tasks()]
