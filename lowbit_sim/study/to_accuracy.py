"""Time and energy that a machine takes to train to an accuracy, from the record of a `compare`.

    steps to accuracy = steps of an epoch x epochs until the test accuracy first reaches it, for each seed
    seconds, joules   = steps x the cost of a training step on the machine

Seeds that never reach the accuracy have no number of steps; the mean is over those that do, and says how many they
are. Evaluation after the epochs is no part of training and is not priced.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.read_record import require_record


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a training step of an arm costs on a machine.

    Attributes:
        machine: Its name.
        seconds, energy_pj: Of one step.
        energy_low_pj, energy_high_pj: The range of the energy; None in a record of a time before there was one.
        refusal: Why the machine can't run the arm, or "". The figures are 0 then.
    """

    machine: str
    seconds: float = 0.0
    energy_pj: float = 0.0
    energy_low_pj: float | None = None
    energy_high_pj: float | None = None
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """When a run first reached the accuracy: after how many epochs and steps, or None if it never did."""

    seed: int
    epochs: int | None
    steps: int | None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation; the latter is None for a single value."""

    mean: float
    deviation: float | None


@dataclass(frozen=True, kw_only=True)
class ArmToAccuracy:
    """An arm on its way to the accuracy.

    Attributes:
        arm: Its name.
        accuracy: The accuracy to reach, 0 to 1.
        best_accuracy: The highest that any run had after an epoch; None if no epoch ended.
        runs: When each seed's run reached it.
        step_costs: A training step's cost on each machine.
    """

    arm: str
    accuracy: float
    best_accuracy: float | None
    runs: tuple[Reached, ...]
    step_costs: tuple[StepCost, ...]

    @property
    def reached(self) -> int:
        """How many seeds reached the accuracy."""
        return sum(run.steps is not None for run in self.runs)

    @property
    def epochs(self) -> Spread | None:
        """Epochs over the seeds that reached the accuracy."""
        return _spread([run.epochs for run in self.runs])

    @property
    def steps(self) -> Spread | None:
        """Steps over the seeds that reached the accuracy."""
        return _spread([run.steps for run in self.runs])

    def times(self, factor: float | None) -> Spread | None:
        """Steps times a step's cost; None where there is no cost or no seed reached the accuracy."""
        steps = self.steps
        if steps is None or factor is None:
            return None
        deviation = None if steps.deviation is None else steps.deviation * factor
        return Spread(mean=steps.mean * factor, deviation=deviation)


def _spread(values: Sequence[int | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(mean=statistics.fmean(known), deviation=deviation)


def to_accuracy(
    record: Mapping[str, Any],
    accuracy: float,
    step_costs: Mapping[str, Sequence[StepCost]] | None = None,
    *,
    name: str = "the file",
) -> list[ArmToAccuracy]:
    """When the arms of a record reach an accuracy, and what a step of each costs.

    Args:
        record: What `compare` wrote with --json, or its run folder's result.json.
        accuracy: The test accuracy to reach, 0 to 1.
        step_costs: Costs by arm in place of the record's own.
        name: The record's file, for messages.

    Raises:
        StudyError: An accuracy that can't be, a record without runs or without costs, or no record.
    """
    if not 0 < accuracy <= 1:
        raise StudyError(f"an accuracy to reach is above 0 and at most 100 %, got {100 * accuracy:g} %")
    require_record(record, name)
    steps = _steps_per_epoch(record["arms"])
    return [_arm(arm, accuracy, steps, _costs(arm, step_costs, name)) for arm in record["arms"]]


def _costs(
    arm: Mapping[str, Any], step_costs: Mapping[str, Sequence[StepCost]] | None, name: str
) -> Sequence[StepCost]:
    if step_costs is None:
        return _recorded_costs(arm)
    if arm["name"] not in step_costs:
        raise StudyError(
            f"{name} has runs of an arm {arm['name']!r} that its study does not have: it has {', '.join(step_costs)}"
        )
    return step_costs[arm["name"]]


def _steps_per_epoch(arms: Sequence[Mapping[str, Any]]) -> int:
    """Steps of an epoch, the same for all runs of a study; a run that stopped early may have a part of one more."""
    for run in (run for arm in arms for run in arm["runs"]):
        if run["status"] == "completed" and run["epochs"]:
            return run["steps"] // len(run["epochs"])
    raise StudyError("no run of the record was completed, so it does not tell how many steps an epoch has")


def _arm(
    arm: Mapping[str, Any], accuracy: float, steps_per_epoch: int, costs: Sequence[StepCost]
) -> ArmToAccuracy:
    accuracies = [[epoch["test_accuracy"] for epoch in run["epochs"]] for run in arm["runs"]]
    firsts = [next((i for i, a in enumerate(run, start=1) if a >= accuracy), None) for run in accuracies]
    return ArmToAccuracy(
        arm=arm["name"],
        accuracy=accuracy,
        best_accuracy=max((a for run in accuracies for a in run), default=None),
        runs=tuple(
            Reached(seed=run["seed"], epochs=epochs, steps=epochs and epochs * steps_per_epoch)
            for run, epochs in zip(arm["runs"], firsts, strict=True)
        ),
        step_costs=tuple(costs),
    )


def _recorded_costs(arm: Mapping[str, Any]) -> list[StepCost]:
    if not arm["prices"]:
        raise StudyError(
            f"the record has no cost of a training step (arm {arm['name']!r}): the study named no machine. Name one "
            "here with --profile, or run compare with --profile"
        )
    return [
        StepCost(machine=price["machine"], refusal=price["refusal"])
        if price["cost"] is None
        else StepCost(
            machine=price["machine"],
            seconds=price["cost"]["seconds"],
            energy_pj=price["cost"]["energy_pj"],
            energy_low_pj=price["cost"].get("energy_low_pj"),
            energy_high_pj=price["cost"].get("energy_high_pj"),
        )
        for price in arm["prices"]
    ]


def to_accuracy_dict(arm: ArmToAccuracy) -> dict[str, Any]:
    """Everything as plain numbers by name, for JSON; what was not reached is None."""
    return {
        "arm": arm.arm,
        "accuracy": arm.accuracy,
        "best_accuracy": arm.best_accuracy,
        "reached": arm.reached,
        "runs": [{"seed": run.seed, "epochs": run.epochs, "steps": run.steps} for run in arm.runs],
        "epochs": _spread_dict(arm.epochs),
        "steps": _spread_dict(arm.steps),
        "machines": [_machine_dict(arm, cost) for cost in arm.step_costs],
    }


def _machine_dict(arm: ArmToAccuracy, cost: StepCost) -> dict[str, Any]:
    if cost.refusal:
        return {"machine": cost.machine, "refusal": cost.refusal}
    joules = {
        f"energy{end}_j": _spread_dict(arm.times(None if pj is None else pj * 1e-12))
        for end, pj in (("_low", cost.energy_low_pj), ("", cost.energy_pj), ("_high", cost.energy_high_pj))
    }
    return {
        "machine": cost.machine,
        "refusal": "",
        "step_seconds": cost.seconds,
        "step_energy_pj": cost.energy_pj,
        "seconds": _spread_dict(arm.times(cost.seconds)),
        **joules,
    }


def _spread_dict(spread: Spread | None) -> dict[str, float | None] | None:
    return None if spread is None else {"mean": spread.mean, "deviation": spread.deviation}
