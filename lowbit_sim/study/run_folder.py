"""The run folder: everything needed to read, check, repeat and continue a study, readable at any moment.

study.toml          the study with every default; it names the profiles below, so it runs again as it is
profiles/*.toml     every profile used
environment.json    versions, commit, machine, threads, start
metrics.jsonl       one line an epoch, written as it ends
result.json         all results so far and the status; replaced as a whole, never half written

and, until the study has run to the end,

lock                held by the process that runs the study
checkpoints/        the runs that ended, and the state of the one that did not
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lowbit_sim.study.config import Study
from lowbit_sim.study.environment import environment
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.records import plain, write_json, write_text
from lowbit_sim.study.results import SeedResult, StudyResult, to_dict
from lowbit_sim.study.run_files import STUDY_FILE, run_files
from lowbit_sim.training.device import CPU
from lowbit_sim.training.ended_run import read_ended, write_ended
from lowbit_sim.training.metrics import EpochMetrics
from lowbit_sim.training.state_file import StateFileError

#: Changes whenever a folder of before can't be continued any more.
LAYOUT = 2


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A folder that a study writes to."""

    path: Path

    def append_metrics(self, arm: str, seed: int, metrics: EpochMetrics) -> None:
        """Add one line to metrics.jsonl; it is on disk when this returns."""
        line = json.dumps(plain({"arm": arm, "seed": seed, **asdict(metrics)}), allow_nan=False)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_metrics(self, arm: str, seed: int, epochs: int) -> None:
        """Take out of metrics.jsonl what a run wrote after its first epochs, and a line that was cut off."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _is_kept(line, arm, seed, epochs)]
        if kept != lines:
            write_text(path, "".join(kept))

    def write_result(self, result: StudyResult) -> None:
        """Replace result.json."""
        write_json(self.path / "result.json", self.record(result))

    def record(self, result: StudyResult) -> dict[str, Any]:
        """A result with its study, and the versions and the machine that it holds for: what a claim can cite."""
        ran = tomllib.loads((self.path / STUDY_FILE).read_text(encoding="utf-8"))
        return {**to_dict(result), "study": ran, "environment": self.environment()}

    def environment(self) -> dict[str, Any]:
        """What environment.json holds.

        Raises:
            StudyError: It is missing, cut off or damaged.
        """
        path = self.path / "environment.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "cut off or damaged"
            raise StudyError(f"can't read {path}: {why}") from None
        if not isinstance(known, dict) or not isinstance(known.get("packages", {}), dict):
            raise StudyError(f"can't read {path}: it is not what a run writes there")
        return known

    def require_whole(self) -> None:
        """Make sure that what a continuation writes to is there.

        Raises:
            StudyError: A file is missing, or something else is in its place.
        """
        metrics, checkpoints = self.path / "metrics.jsonl", self.path / "checkpoints"
        if not metrics.is_file():
            raise StudyError(f"{metrics} is {'no file' if metrics.exists() else 'missing'}")
        if checkpoints.exists() and not checkpoints.is_dir():
            raise StudyError(f"{checkpoints} is no folder")

    def note_continuation(self) -> None:
        """Put into environment.json that the study is taken up again now."""
        known = self.environment()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        times = [*known.get("continued_utc", ()), now]
        write_json(self.path / "environment.json", {**known, "continued_utc": times})

    @property
    def status(self) -> str:
        """How far the study got; "running" where result.json is not there or was cut off."""
        try:
            return json.loads((self.path / "result.json").read_text(encoding="utf-8"))["status"]
        except (OSError, ValueError, KeyError, TypeError):
            return "running"

    def checkpoint_path(self, arm: int, seed: int) -> Path:
        """Where the state of a run is kept, by the arm's number in the study; its folder exists afterwards."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder / f"arm{arm}-seed{seed}.safetensors"

    def _finished_path(self, arm: int, seed: int) -> Path:
        return self.checkpoint_path(arm, seed).with_suffix(".finished.safetensors")

    def write_finished(self, arm: int, run: SeedResult) -> None:
        """Keep all of a run that ended, by the arm's number in the study."""
        write_ended(self._finished_path(arm, run.seed), run.training)

    def finished(self, arm: int, seed: int, tell: Callable[[str], None]) -> SeedResult | None:
        """A run that ended; None where it did not, or where its file is damaged, of which `tell` is told."""
        try:
            return SeedResult(seed=seed, training=read_ended(self._finished_path(arm, seed)))
        except FileNotFoundError:
            return None
        except StateFileError as error:
            tell(f"{error}: the run is run again")
            return None

    def remove_checkpoints(self) -> None:
        """Delete what only a continuation needs."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        (self.path / "lock").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it however the process ends.

        Raises:
            StudyError: Another process runs the study in this folder.
        """
        with (self.path / "lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise StudyError(
                    f"the study is running in {self.path} (process {file.read().strip() or 'not known'}): wait for "
                    "it, stop it, or start another run beside it with --fresh"
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


def _is_kept(line: str, arm: str, seed: int, epochs: int) -> bool:
    try:
        known = json.loads(line)
        return (known["arm"], known["seed"]) != (arm, seed) or known["epoch"] < epochs
    except (ValueError, KeyError, TypeError):  # no line of metrics
        return False


def create_run_folder(parent: Path, study: Study, device: torch.device = CPU) -> RunFolder:
    """Make a new folder `<UTC time>-<title>` with what is known before the first run.

    Args:
        parent: Where the folder is made.
        study: The study, written as it is given: resolve it first.
        device: What it trains on.

    Raises:
        StudyError: The folder can't be made.
    """
    now = datetime.now(UTC)
    slug = re.sub(r"[^a-z0-9]+", "-", study.title.lower()).strip("-") or "study"
    files = run_files(study)
    try:
        path = _fresh(parent / f"{now:%Y%m%d-%H%M%S}-{slug}")
    except OSError as error:
        raise StudyError(f"can't make a run folder in {parent}: {error}") from error
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    (path / "metrics.jsonl").touch()
    write_json(path / "environment.json", {"layout": LAYOUT, **environment(now, device)})
    return RunFolder(path=path)


def _fresh(path: Path) -> Path:
    """A folder that did not exist: the path, or the path with a number if two runs start in one second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    candidate, number = path, 1
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")
