"""A native arm of a study from a plain reading of its file, for machines without pydantic.

The model, the data, the training loop and its checkpoints are those of `lowbit-sim compare`, and so are the bits;
what is not there is the file's checks and the prices of machines. Only arms that say nothing but that they are
native, and their own hyperparameters, are read this way.
"""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.study_arms import epoch_line, is_plain
from benchmarks.gpu.task import Record, tell
from lowbit_sim.study import native_arms
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.environment import code_digest, environment, hardware_name
from lowbit_sim.study.models import build
from lowbit_sim.study.native_arms import Native, as_trained
from lowbit_sim.study.results import ArmResult, SeedResult, StudyResult, to_dict
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.device import device_name, find_device
from lowbit_sim.training.ended_run import read_ended, write_ended
from lowbit_sim.training.loop import train
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.usage import measured_how


class _OutOfTime(Exception):
    """The seconds of the piece are over; the state of the epoch that ended is on the disk."""


def run_plainly(path: Path, name: str, seconds: float, *, device: str, out: Path) -> Record | None:
    """A piece of an arm's runs, as `study_arms.run_arm`.

    Raises:
        ValueError: No such arm, or one that is not plain.
    """
    started = time.monotonic()
    text = path.read_text(encoding="utf-8")
    table = tomllib.loads(text)
    arm = next((arm for arm in table["arms"] if arm["name"] == name), None)
    if arm is None or not is_plain(arm):
        raise ValueError(f"{path}: only a native arm without rules can be read plainly, and {name!r} is none")
    data = load(**table["data"])
    run = _PlainRun(
        table=table,
        arm=arm,
        data=data,
        device=find_device(device),
        folder=out / f"{path.stem}-plain",
        digest=hashlib.sha256(text.encode()).hexdigest()[:12],
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        runs = tuple(run.trained(seed, lambda: _stop(started + seconds)) for seed in table["seeds"])
    except _OutOfTime:
        return None
    return run.record(runs)


def _stop(at: float) -> None:
    if time.monotonic() >= at:
        raise _OutOfTime


@dataclass(frozen=True, kw_only=True)
class _PlainRun:
    """An arm at work: its study's table, itself, its data, where it runs and where its files are."""

    table: Mapping[str, Any]
    arm: Mapping[str, Any]
    data: Dataset
    device: torch.device
    folder: Path
    digest: str

    @property
    def native(self) -> Native:
        """How the arm is native."""
        native = self.arm["native"]
        return True if native == "fp32" else native

    def trained(self, seed: int, on_saved: Callable[[], None]) -> SeedResult:
        """A run, as it ended before or trained now, from its checkpoint if there is one."""
        identity = self._identity(seed)
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        ended = self.folder / f"{key}-seed{seed}.ended.safetensors"
        if ended.exists():
            return SeedResult(seed=seed, training=read_ended(ended))
        checkpoint = Checkpoint(
            path=self.folder / f"{key}-seed{seed}.safetensors", identity=identity, on_saved=on_saved
        )
        model = self.table["model"]
        training = train(
            as_trained(
                build(
                    model["name"],
                    self.data.in_channels,
                    self.data.classes,
                    self.data.image_size,
                    width=model.get("width"),
                    seed=seed,
                ),
                self.native,
            ).to(self.device),
            self.data.train,
            self.data.test,
            self._settings(seed),
            on_epoch=lambda metrics: tell(epoch_line(self.arm["name"], seed, metrics)),
            checkpoint=checkpoint,
        )
        write_ended(ended, training)
        checkpoint.remove()
        return SeedResult(seed=seed, training=training)

    def record(self, runs: tuple[SeedResult, ...]) -> Record:
        """The record, in the form of a study's."""
        table = self.table
        result = StudyResult(
            title=table["title"],
            question=table.get("question", ""),
            data=self.data.description,
            model=table["model"]["name"],
            classes=self.data.classes,
            test_examples=len(self.data.test),
            batch_size=min(table["training"]["batch_size"], len(self.data.train)),
            seeds=tuple(table["seeds"]),
            status="partial",
            reason="read plainly, as pydantic is not installed: without checks of the file and without prices",
            arms=(self._arm(runs),),
            left_out=tuple(arm["name"] for arm in table["arms"] if arm is not self.arm),
            hardware=hardware_name(self.device),
            measured_how=measured_how(self.device),
        )
        known = environment(datetime.now(UTC), self.device)
        return {**to_dict(result), "study": dict(table), "environment": known}

    def _arm(self, runs: tuple[SeedResult, ...]) -> ArmResult:
        return ArmResult(
            name=self.arm["name"],
            native=self.native is True,
            operands="fp32" if isinstance(self.native, bool) else native_arms.operands(self.native),
            accumulator="fp32" if isinstance(self.native, bool) else native_arms.accumulator(self.native),
            gradient_rounding="nearest_even" if self.native == "int8" else "none",
            prices=(),
            runs=runs,
            training=self._hyperparameters(),
        )

    def _hyperparameters(self) -> dict[str, Any]:
        return {**self.table["training"], **self.arm.get("training", {})}

    def _settings(self, seed: int) -> TrainingSettings:
        extra = native_arms.hyperparameters(self.native)
        return TrainingSettings(**self._hyperparameters(), seed=seed, **extra)

    def _identity(self, seed: int) -> dict[str, str]:
        """What a run is; another study, code or device has files of its own."""
        return {
            "study": self.digest,
            "arm": self.arm["name"],
            "seed": str(seed),
            "data": self.data.description,
            "code": code_digest()[:12],
            "device": device_name(self.device),
            "torch": torch.__version__,
        }
