"""What a study found: every run, every price, and the figures that a report derives from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.study.recorded_cost import RecordedCost
from lowbit_sim.training.metrics import TrainingResult

if TYPE_CHECKING:
    from hw_models import CostReport

#: "partial": every run that was asked for has ended, but arms of the study were left out.
StudyStatus = Literal["running", "completed", "partial", "interrupted", "failed"]


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One run of one arm.

    Attributes:
        seed: The run's seed.
        training: How it went.
    """

    seed: int
    training: TrainingResult

    @property
    def test_accuracy(self) -> float | None:
        """After the last epoch; None for a run that diverged."""
        return self.training.epochs[-1].test_accuracy if self.training.status == "completed" else None


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """A training step in one stage of a run.

    Attributes:
        name: What the stage is.
        share: Its share of the run's steps.
        cycles: Time of a step in clock cycles.
        energy_pj: Its nominal energy in pJ.
    """

    name: str
    share: float
    cycles: int
    energy_pj: float


@dataclass(frozen=True, kw_only=True)
class Price:
    """A training step of an arm on a machine, or an inference: its cost, or why the machine can't run it.

    Attributes:
        machine: Name of the machine.
        cost: The cost of one step; of a run in stages, of its mean step.
        refusal: Why there is none, or "".
        stages: What the mean is made of; empty where all steps cost alike.
    """

    machine: str
    cost: CostReport | RecordedCost | None
    refusal: str = ""
    stages: tuple[StageCost, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm.

    Attributes:
        name: Its name in the study.
        native: Whether every layer is native float32.
        operands, accumulator, gradient_rounding: Its numerics in words.
        prices: One for each machine.
        inference: The inference of a batch with what was trained, one for each machine; empty in an older record.
        runs: One for each seed that ended.
        recipes: Its training algorithms in words, or "".
        overrides: The hyperparameters that are not the study's, in words, or "".
        training: All its hyperparameters; empty in a record of a time before an arm could have its own.
        recorded_seconds_per_step: The median step time of a record, which does not hold the times of the steps.
    """

    name: str
    native: bool
    operands: str
    accumulator: str
    gradient_rounding: str
    prices: tuple[Price, ...]
    runs: tuple[SeedResult, ...] = ()
    recipes: str = ""
    overrides: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    recorded_seconds_per_step: float | None = None
    inference: tuple[Price, ...] = ()

    @property
    def mean_accuracy(self) -> float | None:
        """Mean test accuracy after the last epoch, over the runs that completed."""
        accuracies = self._accuracies()
        return statistics.fmean(accuracies) if accuracies else None

    @property
    def accuracy_deviation(self) -> float | None:
        """Sample standard deviation of the test accuracy; None for fewer than two completed runs."""
        accuracies = self._accuracies()
        return statistics.stdev(accuracies) if len(accuracies) > 1 else None

    def _accuracies(self) -> list[float]:
        return [run.test_accuracy for run in self.runs if run.test_accuracy is not None]

    @property
    def seconds_per_step(self) -> float | None:
        """Median wall-clock time of a training step over all runs: robust to compilation and to other load."""
        steps = [seconds for run in self.runs for seconds in run.training.step_seconds]
        return statistics.median(steps) if steps else self.recorded_seconds_per_step

    @property
    def energy_per_step_j(self) -> float | None:
        """Measured energy of the device in a training step, the median over the epochs of their means; else None."""
        epochs = [epoch for run in self.runs for epoch in run.training.epochs]
        means = [
            epoch.energy_j / epoch.steps for epoch in epochs if epoch.energy_j is not None and epoch.steps
        ]
        return statistics.median(means) if means else None

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most that a training step's tensors held on the device at once; None where it was not measured."""
        peaks = [epoch.peak_memory_bytes for run in self.runs for epoch in run.training.epochs]
        return max((peak for peak in peaks if peak is not None), default=None)

    @property
    def overflow_share(self) -> float | None:
        """Overflowed share of the accumulator additions in the first step of every epoch of every run.

        None if no emulated GEMM ran, if no epoch ended, or if a GEMM could not count.
        """
        epochs = [epoch for run in self.runs for epoch in run.training.epochs]
        additions = sum(epoch.additions for epoch in epochs)
        overflows = [epoch.overflows for epoch in epochs]
        if not additions or None in overflows:
            return None
        return sum(count for count in overflows if count is not None) / additions

    @property
    def operands_lost(self) -> OperandCounts:
        """Elements of operands that were quantised in the steps that counted, and how many of them were lost."""
        counts = [epoch.operands for run in self.runs for epoch in run.training.epochs]
        return sum(counts, start=OperandCounts(elements=0))


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A study, finished or not.

    Attributes:
        title, question: The study's.
        data: Description of the data set.
        model: Name of the model.
        classes: Number of classes.
        test_examples: Number of test images.
        batch_size: Examples in the training step that is priced.
        seeds: The seeds asked for.
        status: How far it got.
        arms: The arms in the study's order, without runs where none ended; those that were left out are not there.
        reason: Why it is not completed, or "".
        left_out: Names of the arms of the study that were not asked for and have no run.
        unavailable: The native arms that the machine has no units for, by name, and why.
        hardware: Name of the accelerator or the processor that trained; "" in an older record.
        measured_how: How "time", "energy" and "memory" of a step were measured, in words, or why they were not; empty
            in an older record.
    """

    title: str
    question: str
    data: str
    model: str
    classes: int
    test_examples: int
    batch_size: int
    seeds: tuple[int, ...]
    status: StudyStatus
    arms: tuple[ArmResult, ...]
    reason: str = ""
    left_out: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    hardware: str = ""
    measured_how: Mapping[str, str] = field(default_factory=dict)

    @property
    def chance_limit(self) -> float:
        """Accuracy up to which an arm is at chance level: guessing's mean and three standard deviations.

        p + 3 sqrt(p (1 - p) / n) with p = 1 / classes and n test images.
        """
        chance = 1 / self.classes
        return chance + 3 * math.sqrt(chance * (1 - chance) / self.test_examples)

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that others are compared with: the first that is native throughout."""
        return next((arm for arm in self.arms if arm.native), None)


def arm_status(arm: ArmResult, study: StudyResult) -> str:
    """How an arm fared, in words: "ok", "chance level", "diverged", "not run", and in how many of its runs."""
    if not arm.runs:
        return "not run"
    diverged = sum(run.test_accuracy is None for run in arm.runs)
    guessing = sum(a is not None and a <= study.chance_limit for a in (r.test_accuracy for r in arm.runs))
    missing = len(study.seeds) - len(arm.runs)
    parts = [
        _counted("diverged", diverged, len(arm.runs)),
        _counted("chance level", guessing, len(arm.runs)),
        f"{missing} of {len(study.seeds)} not run" if missing else "",
    ]
    return ", ".join(part for part in parts if part) or "ok"


def _counted(word: str, count: int, runs: int) -> str:
    if not count:
        return ""
    return word if count == runs else f"{word} {count} of {runs}"


def to_dict(study: StudyResult) -> dict[str, Any]:
    """Everything as plain dicts, lists, strings and numbers, for JSON; not-a-number becomes None."""
    return {
        "title": study.title,
        "question": study.question,
        "status": study.status,
        "reason": study.reason,
        "left_out": list(study.left_out),
        "unavailable": dict(study.unavailable),
        "hardware": study.hardware,
        "measured_how": dict(study.measured_how),
        "data": study.data,
        "model": study.model,
        "classes": study.classes,
        "test_examples": study.test_examples,
        "batch_size": study.batch_size,
        "seeds": list(study.seeds),
        "chance_limit": study.chance_limit,
        "arms": [_arm_dict(arm, study) for arm in study.arms],
    }


def _arm_dict(arm: ArmResult, study: StudyResult) -> dict[str, Any]:
    base = study.baseline
    return {
        "name": arm.name,
        "native": arm.native,
        "operands": arm.operands,
        "accumulator": arm.accumulator,
        "gradient_rounding": arm.gradient_rounding,
        "recipes": arm.recipes,
        "overrides": arm.overrides,
        "training": dict(arm.training),
        "status": arm_status(arm, study),
        "mean_accuracy": arm.mean_accuracy,
        "accuracy_deviation": arm.accuracy_deviation,
        "difference_to_baseline": difference(arm, base),
        "seconds_per_step": arm.seconds_per_step,
        "time_ratio_to_baseline": time_ratio(arm, base),
        "energy_per_step_j": arm.energy_per_step_j,
        "peak_memory_bytes": arm.peak_memory_bytes,
        "overflow_share": arm.overflow_share,
        "operands_lost": asdict(arm.operands_lost),
        "runs": [_run_dict(run) for run in arm.runs],
        "prices": [_price_dict(price) for price in arm.prices],
        "inference": [_price_dict(price) for price in arm.inference],
    }


def _price_dict(price: Price) -> dict[str, Any]:
    stages = {"stages": [asdict(stage) for stage in price.stages]} if price.stages else {}
    cost = price.cost and price.cost.to_dict()
    return {"machine": price.machine, "refusal": price.refusal, "cost": cost, **stages}


def _run_dict(run: SeedResult) -> dict[str, Any]:
    training = run.training
    return {
        "seed": run.seed,
        "status": training.status,
        "reason": training.reason,
        "test_accuracy": run.test_accuracy,
        "median_step_seconds": statistics.median(training.step_seconds) if training.step_seconds else None,
        "steps": len(training.step_seconds),
        # The counts of every GEMM are in the metrics' lines: in the record they would outweigh all else.
        "epochs": [
            {key: value for key, value in asdict(epoch).items() if key != "gemms"}
            for epoch in training.epochs
        ],
    }


def difference(arm: ArmResult, baseline: ArmResult | None) -> float | None:
    """Mean accuracy of an arm less the baseline's; None where either has none."""
    if baseline is None or arm.mean_accuracy is None or baseline.mean_accuracy is None:
        return None
    return arm.mean_accuracy - baseline.mean_accuracy


def time_ratio(arm: ArmResult, baseline: ArmResult | None) -> float | None:
    """Time of an arm's training step over the baseline's; None where either has none."""
    if baseline is None or not arm.seconds_per_step or not baseline.seconds_per_step:
        return None
    return arm.seconds_per_step / baseline.seconds_per_step
