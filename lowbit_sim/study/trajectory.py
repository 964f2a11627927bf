"""What changes over the epochs of a study's runs: losses, accuracies, and what recipes measured; mean and band.

The band is one sample standard deviation over the runs (seeds) to either side of their mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.results import ArmResult
from lowbit_sim.training.metrics import EpochMetrics

#: What every epoch has, besides the measurements.
ALWAYS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One epoch of an arm.

    Attributes:
        epoch: Its number, from 1: after so many epochs.
        mean: Over the runs that have a value.
        deviation: Sample standard deviation; 0 for a single run.
        runs: How many have a value.
    """

    epoch: int
    mean: float
    deviation: float
    runs: int


def measurement_names(arms: Sequence[ArmResult]) -> list[str]:
    """What the recipes of any arm measured, in order of appearance."""
    epochs = [epoch for arm in arms for run in arm.runs for epoch in run.training.epochs]
    return list(dict.fromkeys(name for epoch in epochs for name in epoch.measurements))


def trajectory(arm: ArmResult, name: str) -> list[Point]:
    """The values of an arm after each epoch that has any.

    Args:
        arm: The arm.
        name: A measurement's name, or one of `ALWAYS`.
    """
    length = max((len(run.training.epochs) for run in arm.runs), default=0)
    points = []
    for number in range(length):
        values = [
            _value(run.training.epochs[number], name) for run in arm.runs if number < len(run.training.epochs)
        ]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if known:
            deviation = statistics.stdev(known) if len(known) > 1 else 0.0
            mean = statistics.fmean(known)
            points.append(Point(epoch=number + 1, mean=mean, deviation=deviation, runs=len(known)))
    return points


def last_values(arm: ArmResult, name: str) -> list[float]:
    """The value of each run that completed after its last epoch, where it has one."""
    runs = [run for run in arm.runs if run.training.status == "completed"]
    values = [_value(run.training.epochs[-1], name) for run in runs]
    return [value for value in values if value is not None and math.isfinite(value)]


def require_known(arms: Sequence[ArmResult], name: str) -> None:
    """Raise StudyError where no arm has a value of that name."""
    known = [*measurement_names(arms), *ALWAYS]
    if name not in known:
        raise StudyError(unknown("measurement", name, known))


def plotted_names(arms: Sequence[ArmResult], names: Sequence[str] = ()) -> list[str]:
    """The quantities of a plot: those that are named, or with none all that the arms' recipes measured.

    Raises:
        StudyError: A name that no arm has, or nothing named and nothing measured.
    """
    for name in names:
        require_known(arms, name)
    chosen = list(names) or measurement_names(arms)
    if not chosen:
        raise StudyError(
            "no recipe of these arms measured anything: name what is to be plotted, as in --measurement test_accuracy"
        )
    return chosen


def _value(epoch: EpochMetrics, name: str) -> float | None:
    """A record has null where a number was not finite, and no measurement where the arm lacks the recipe."""
    return getattr(epoch, name) if name in ALWAYS else epoch.measurements.get(name)
