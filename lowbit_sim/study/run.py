"""Runs a study: every arm with every seed, into a run folder that is readable at any moment.

What can be wrong with a study is found before the first training step: the data are loaded, and every arm is
built, converted and priced first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import hw_models
from lowbit_sim.study.arms import build_arm, priced_arm, recipes, settings
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.records import RunFolder, create_run_folder
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.results import ArmResult, SeedResult, StudyResult
from lowbit_sim.training.loop import EpochMetrics, train


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
) -> Outcome:
    """Run every arm with every seed.

    A keyboard interrupt ends the study early: the outcome's status is "interrupted" and holds the runs that
    ended. Any other exception is recorded as status "failed" and raised again.

    Args:
        study: The study.
        out: Folder in which a new run folder is made.
        data_root: Folder of the data sets; by default the environment's LOWBIT_DATA.
        on_epoch: Called after every epoch.

    Raises:
        StudyError: Data, a model, a rule or a profile is not what the study says.
    """
    study = resolved(study)
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    result = _unrun(study, data)
    folder = create_run_folder(out, study)
    folder.write_result(result)
    notify = on_epoch or (lambda progress: None)
    try:
        for index, arm in enumerate(study.arms):
            for seed in study.seeds:
                run = _run(study, arm, data, seed, folder, notify)
                result = _with_run(result, index, run)
                folder.write_result(result)
    except KeyboardInterrupt:
        result = replace(result, status="interrupted", reason="interrupted from the keyboard")
    except BaseException as error:
        folder.write_result(replace(result, status="failed", reason=f"{type(error).__name__}: {error}"))
        raise
    else:
        result = replace(result, status="completed")
    folder.write_result(result)
    return Outcome(result=result, folder=folder.path)


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


def _run(
    study: Study,
    arm: ArmTable,
    data: Dataset,
    seed: int,
    folder: RunFolder,
    notify: Callable[[Progress], None],
) -> SeedResult:
    def on_epoch(metrics: EpochMetrics) -> None:
        folder.append_metrics(arm.name, seed, metrics)
        notify(Progress(arm=arm.name, seed=seed, metrics=metrics))

    model = build_arm(study, arm, data, seed)
    training = train(
        model, data.train, data.test, settings(study, arm, seed), recipes=recipes(arm), on_epoch=on_epoch
    )
    return SeedResult(seed=seed, training=training)


def _with_run(result: StudyResult, index: int, run: SeedResult) -> StudyResult:
    arms: list[ArmResult] = list(result.arms)
    arms[index] = replace(arms[index], runs=(*arms[index].runs, run))
    return replace(result, arms=tuple(arms))
