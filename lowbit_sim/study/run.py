"""Runs a study: every arm with every seed, into a run folder that is readable at any moment.

What can be wrong with a study is found before the first training step: the data are loaded, and every arm is
built, converted and priced first. A study that was stopped, also by `kill -9`, goes on where it was: runs that ended
are kept, and the one that did not goes on from its last epoch, with the results that it would have had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import hw_models
from lowbit_sim.study.arms import build_arm, priced_arm, recipes, settings
from lowbit_sim.study.config import Study
from lowbit_sim.study.continuing import named_run, unfinished_run
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.environment import code_digest
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.results import ArmResult, SeedResult, StudyResult
from lowbit_sim.study.run_files import study_digest
from lowbit_sim.study.run_folder import RunFolder, create_run_folder
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.loop import train
from lowbit_sim.training.metrics import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is told while a study runs: an epoch of an arm's run ended."""

    arm: str
    seed: int
    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A study's result and the folder that holds it; `result.status` tells whether it ran to the end."""

    result: StudyResult
    folder: Path


def run_study(
    study: Study,
    *,
    out: Path,
    data_root: Path | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    resume: Path | None = None,
    tell: Callable[[str], None] | None = None,
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

    Raises:
        StudyError: Data, a model, a rule or a profile is not what the study says; or the study is running already,
            or can't go on in the folder `resume`.
    """
    tell = tell or (lambda text: None)
    study = resolved(study)
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    result = _unrun(study, data)
    folder = _found(study, data, out, fresh, resume, tell)
    run = _StudyRun(
        study=study,
        digest=study_digest(study),
        data=data,
        folder=folder or create_run_folder(out, study),
        notify=on_epoch or (lambda progress: None),
        tell=tell,
    )
    with run.folder.locked():
        if folder is not None:
            folder.note_continuation()
            tell(f"continuing {folder.path}: {run.words_for_what_is_there()}")
        return run.to_the_end(result)


def _found(
    study: Study, data: Dataset, out: Path, fresh: bool, resume: Path | None, tell: Callable[[str], None]
) -> RunFolder | None:
    """The folder to go on in; None to start anew."""
    if resume is not None:
        return named_run(resume, study, data.description)
    return None if fresh else unfinished_run(out, study, data.description, tell)


def _unrun(study: Study, data: Dataset) -> StudyResult:
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
        arms=tuple(priced_arm(study, arm, data, profiles) for arm in study.arms),
    )


@dataclass(frozen=True, kw_only=True)
class _StudyRun:
    """A study at work in its folder."""

    study: Study
    digest: str
    data: Dataset
    folder: RunFolder
    notify: Callable[[Progress], None]
    tell: Callable[[str], None]

    def to_the_end(self, result: StudyResult) -> Outcome:
        """Every run that is not there yet."""
        folder = self.folder
        folder.write_result(result)
        try:
            for index, _ in enumerate(self.study.arms):
                for seed in self.study.seeds:
                    result = _with_run(result, index, self._run(index, seed))
                    folder.write_result(result)
        except KeyboardInterrupt:
            result = replace(result, status="interrupted", reason="interrupted from the keyboard")
        except BaseException as error:
            folder.write_result(replace(result, status="failed", reason=f"{type(error).__name__}: {error}"))
            raise
        else:
            result = replace(result, status="completed")
        folder.write_result(result)
        if result.status == "completed":
            folder.remove_checkpoints()
        return Outcome(result=result, folder=folder.path)

    def words_for_what_is_there(self) -> str:
        """How many of the runs have ended."""
        places = [(index, seed) for index, _ in enumerate(self.study.arms) for seed in self.study.seeds]
        ended = sum(self.folder.finished(*place, lambda text: None) is not None for place in places)
        return f"{ended} of its {len(places)} runs have ended"

    def _run(self, index: int, seed: int) -> SeedResult:
        """A run: as it ended before, or trained now, from its checkpoint if there is one."""
        checkpoint = self._checkpoint(index, seed)
        run = self.folder.finished(index, seed, self.tell)
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
            build_arm(study, arm, data, seed),
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
            on_refused=self.tell,
        )


def _with_run(result: StudyResult, index: int, run: SeedResult) -> StudyResult:
    arms: list[ArmResult] = list(result.arms)
    arms[index] = replace(arms[index], runs=(*arms[index].runs, run))
    return replace(result, arms=tuple(arms))
