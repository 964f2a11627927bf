"""Runs a study: every arm with every seed, into a run folder that is readable at any moment.

What can be wrong with a study is found before the first training step: the data are loaded, and every arm is
built, converted and priced first. A study that was stopped, also by `kill -9`, goes on where it was: runs that ended
are kept, and the one that did not goes on from its last epoch, with the results that it would have had. So a study
can be run in pieces: some of its arms at a time, and each piece for a bounded time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import hw_models
from lowbit_sim.study.arms import priced_arm, recipes, settings, trained_arm
from lowbit_sim.study.config import Study
from lowbit_sim.study.continuing import named_run, unfinished_run
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.environment import code_digest, hardware_name
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.results import ArmResult, SeedResult, StudyResult
from lowbit_sim.study.run_files import study_digest
from lowbit_sim.study.run_folder import RunFolder, create_run_folder
from lowbit_sim.study.selection import not_available, selected
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.device import CPU
from lowbit_sim.training.loop import train
from lowbit_sim.training.metrics import EpochMetrics
from lowbit_sim.training.usage import measured_how


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is told while a study runs: an epoch of an arm's run ended."""

    arm: str
    seed: int
    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A study's result and the folder that holds it; `result.status` tells whether it ran to the end.

    Attributes:
        result: The result.
        folder: The run folder.
        out_of_time: Whether it was ended by its time limit, and goes on when it is run again.
    """

    result: StudyResult
    folder: Path
    out_of_time: bool = False


class _OutOfTime(Exception):
    """The time limit passed; the state of the epoch that ended is on the disk."""


def run_study(
    study: Study,
    *,
    out: Path,
    data_root: Path | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    resume: Path | None = None,
    tell: Callable[[str], None] | None = None,
    arms: Sequence[str] | None = None,
    device: torch.device = CPU,
    time_limit_s: float | None = None,
) -> Outcome:
    """Run every arm with every seed, or go on where an unfinished run of the same study in `out` is.

    A keyboard interrupt ends the study early: the outcome's status is "interrupted" and holds the runs that
    ended. Any other exception is recorded as status "failed" and raised again. After either the study goes on when it
    is run again.

    Args:
        study: The study.
        out: Folder of the run folders.
        data_root: Folder of the data sets; by default the environment's LOWBIT_DATA.
        on_epoch: Called after every epoch that is trained here.
        fresh: Start anew in any case.
        resume: The run folder to go on in, in place of one found in `out`.
        tell: Told in a sentence what is continued, or why it can't be.
        arms: Names of the arms to run; all, if left out. Of the others the runs that ended before are in the result.
            The status is "partial" while arms of the study are missing, and the study goes on with them later. Native
            arms that the machine has no units for are left out where they are not asked for by name, and the result
            says why.
        device: What to train on, as `training.device.find_device` gives it.
        time_limit_s: Stop at the end of the first epoch after so many seconds; the outcome says so.

    Raises:
        ArmRefusedError: An arm can't run on the device.
        StudyError: Data, a model, a rule or a profile is not what the study says; or the study is running already,
            or can't go on in the folder `resume`.
    """
    tell, started = tell or (lambda text: None), time.monotonic()
    study = resolved(study)
    chosen = selected(study, arms, device)
    unavailable = {} if arms is not None else not_available(study, device)
    for name, why in unavailable.items():
        tell(f"arm {name!r} is not available here: {why}")
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    folder = _found(study, data, device, out, fresh, resume, tell)
    there = _with_ended_runs(study, folder) if folder is not None else ()
    numbers = tuple(i for i, _ in enumerate(study.arms) if i in chosen or i in there)
    result = _unrun(study, data, numbers, unavailable, device)
    run = _StudyRun(
        study=study,
        digest=study_digest(study),
        data=data,
        folder=folder or create_run_folder(out, study, device),
        numbers=numbers,
        chosen=chosen,
        device=device,
        stops_at=None if time_limit_s is None else started + time_limit_s,
        notify=on_epoch or (lambda progress: None),
        tell=tell,
    )
    with run.folder.locked():
        if folder is not None:
            folder.note_continuation()
            tell(f"continuing {folder.path}: {run.words_for_what_is_there()}")
        return run.to_the_end(result)


def _found(
    study: Study,
    data: Dataset,
    device: torch.device,
    out: Path,
    fresh: bool,
    resume: Path | None,
    tell: Callable[[str], None],
) -> RunFolder | None:
    """The folder to go on in; None to start anew."""
    if resume is not None:
        return named_run(resume, study, data.description, device)
    return None if fresh else unfinished_run(out, study, data.description, tell, device)


def _with_ended_runs(study: Study, folder: RunFolder) -> tuple[int, ...]:
    """Numbers of the arms of which a run has ended."""
    return tuple(
        index
        for index, _ in enumerate(study.arms)
        if any(folder.finished(index, seed, lambda text: None) for seed in study.seeds)
    )


def _unrun(
    study: Study,
    data: Dataset,
    numbers: Sequence[int],
    unavailable: Mapping[str, str],
    device: torch.device,
) -> StudyResult:
    """The result before the first run; of the arms with these numbers alone."""
    missing = [arm.name for i, arm in enumerate(study.arms) if i not in numbers]
    profiles = [hw_models.load(name) for name in study.profiles]
    return StudyResult(
        title=study.title,
        question=study.question,
        data=data.description,
        model=study.model.name,
        classes=data.classes,
        test_examples=len(data.test),
        batch_size=min(study.training.batch_size, len(data.train)),
        seeds=study.seeds,
        status="running",
        arms=tuple(priced_arm(study, study.arms[i], data, profiles) for i in numbers),
        left_out=tuple(name for name in missing if name not in unavailable),
        unavailable={name: why for name, why in unavailable.items() if name in missing},
        hardware=hardware_name(device),
        measured_how=measured_how(device),
    )


@dataclass(frozen=True, kw_only=True)
class _StudyRun:
    """A study at work in its folder.

    Attributes:
        study, digest, data, folder, device: The study, the digest of its files, its data, where it is and runs.
        numbers: Numbers in the study of the result's arms.
        chosen: Those of the arms that run; of the others what has ended is there.
        stops_at: When to stop, by `time.monotonic`; None for never.
        notify, tell: Told of epochs, and in sentences.
    """

    study: Study
    digest: str
    data: Dataset
    folder: RunFolder
    numbers: tuple[int, ...]
    chosen: tuple[int, ...]
    device: torch.device
    stops_at: float | None
    notify: Callable[[Progress], None]
    tell: Callable[[str], None]

    def to_the_end(self, result: StudyResult) -> Outcome:
        """Every run that is not there yet."""
        folder = self.folder
        folder.write_result(result)
        out_of_time = False
        try:
            for place, index in enumerate(self.numbers):
                for seed in self.study.seeds:
                    run = self._run(index, seed) if index in self.chosen else self._ended(index, seed)
                    result = result if run is None else _with_run(result, place, run)
                    folder.write_result(result)
        except _OutOfTime:
            out_of_time = True
            result = replace(result, status="interrupted", reason="out of time, to be continued")
        except KeyboardInterrupt:
            result = replace(result, status="interrupted", reason="interrupted from the keyboard")
        except BaseException as error:
            folder.write_result(replace(result, status="failed", reason=f"{type(error).__name__}: {error}"))
            raise
        else:
            result = replace(result, status="completed" if self._is_whole(result) else "partial")
        folder.write_result(result)
        if result.status == "completed":
            folder.remove_checkpoints()
        return Outcome(result=result, folder=folder.path, out_of_time=out_of_time)

    def _is_whole(self, result: StudyResult) -> bool:
        """Whether every arm of the study that the machine has the units for has every run."""
        return not result.left_out and all(len(arm.runs) == len(self.study.seeds) for arm in result.arms)

    def _ended(self, index: int, seed: int) -> SeedResult | None:
        return self.folder.finished(index, seed, self.tell)

    def words_for_what_is_there(self) -> str:
        """How many of the runs have ended."""
        places = [(index, seed) for index, _ in enumerate(self.study.arms) for seed in self.study.seeds]
        ended = sum(self.folder.finished(*place, lambda text: None) is not None for place in places)
        return f"{ended} of its {len(places)} runs have ended"

    def _run(self, index: int, seed: int) -> SeedResult:
        """A run: as it ended before, or trained now, from its checkpoint if there is one."""
        checkpoint = self._checkpoint(index, seed)
        run = self._ended(index, seed)
        if run is None:
            run = self._trained(index, seed, checkpoint)
            self.folder.write_finished(index, run)
        checkpoint.remove()
        return run

    def _trained(self, index: int, seed: int, checkpoint: Checkpoint) -> SeedResult:
        study, data, arm = self.study, self.data, self.study.arms[index]

        def on_epoch(metrics: EpochMetrics) -> None:
            self.folder.append_metrics(arm.name, seed, metrics)
            self.notify(Progress(arm=arm.name, seed=seed, metrics=metrics))

        training = train(
            trained_arm(study, arm, data, seed).to(self.device),
            data.train,
            data.test,
            settings(study, arm, seed),
            recipes=recipes(study, arm, data, seed),
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )
        return SeedResult(seed=seed, training=training)

    def _checkpoint(self, index: int, seed: int) -> Checkpoint:
        arm = self.study.arms[index].name

        def on_resume(epochs: int) -> None:
            self.folder.keep_metrics(arm, seed, epochs)
            if epochs:
                self.tell(f"{arm}, seed {seed}: going on after epoch {epochs}")

        def on_saved() -> None:
            if self.stops_at is not None and time.monotonic() >= self.stops_at:
                raise _OutOfTime

        return Checkpoint(
            path=self.folder.checkpoint_path(index, seed),
            identity={
                "study": self.digest[:12],
                "arm": arm,
                "seed": str(seed),
                "data": self.data.description,
                "code": code_digest()[:12],
            },
            on_resume=on_resume,
            on_saved=on_saved,
            on_refused=self.tell,
        )


def _with_run(result: StudyResult, index: int, run: SeedResult) -> StudyResult:
    arms: list[ArmResult] = list(result.arms)
    arms[index] = replace(arms[index], runs=(*arms[index].runs, run))
    return replace(result, arms=tuple(arms))
