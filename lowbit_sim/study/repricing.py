"""Prices the arms of a record on another machine, for an objective, or on several machines that train together.

A record holds its study, not the events of its steps: the arms are built from it again, and one training step of each
is traced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hw_models
from hw_models.mapping.search import Objective
from lowbit_sim.study.arms import TracedStage, training_stages
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import parse_study
from lowbit_sim.study.to_accuracy import StepCost
from lowbit_sim.trace import WorkloadTrace


def step_costs(
    record: Mapping[str, Any],
    profile: hw_models.HardwareProfile,
    *,
    folder: Path,
    data_root: Path | None = None,
    objective: Objective = "cycles",
    devices: int = 1,
) -> dict[str, list[StepCost]]:
    """The cost of a training step of each arm.

    Args:
        record: What `compare` wrote.
        profile: The machine.
        folder: The record's, which relative paths in the study start from.
        data_root: Folder of the data sets, whose shapes the model takes.
        objective: What GEMMs are mapped for.
        devices: Equal machines that train together. They share the study's batch, so that the steps to an accuracy
            are those of the record; the energy is that of all of them.

    Raises:
        StudyError: A record without its study, a study that can't be built here, or a batch that the machines can't
            share evenly.
    """
    if not isinstance(record.get("study"), dict):
        raise StudyError(
            "the record does not hold its study, so there is no training step to price anew: leave --profile, "
            "--devices and --objective out, or write the record again with compare --json"
        )
    study = parse_study({**record["study"], "profiles": []}, "the record's study", folder)
    for size in (study.training_of(arm).batch_size for arm in study.arms):
        if size % devices:
            raise StudyError(
                f"{devices} machines can't share the record's batch of {size} evenly: give a number of machines that "
                "divides it"
            )
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    return {
        arm.name: [
            _mean_cost(training_stages(study, arm, data, devices=devices), profile, objective, devices)
        ]
        for arm in study.arms
    }


def _mean_cost(
    stages: Sequence[TracedStage], profile: hw_models.HardwareProfile, objective: Objective, devices: int
) -> StepCost:
    """The cost of the mean step of a run, over its stages."""
    costs = [(stage.share, _step_cost(stage.trace, profile, objective, devices)) for stage in stages]
    refused = next((cost for _, cost in costs if cost.refusal), None)
    if refused is not None or len(costs) == 1:
        return refused or costs[0][1]

    def mean(name: str) -> float:
        return sum(share * getattr(cost, name) for share, cost in costs)

    return StepCost(
        machine=profile.machine.name,
        seconds=mean("seconds"),
        energy_pj=mean("energy_pj"),
        energy_low_pj=mean("energy_low_pj"),
        energy_high_pj=mean("energy_high_pj"),
    )


def _step_cost(
    trace: WorkloadTrace, profile: hw_models.HardwareProfile, objective: Objective, devices: int
) -> StepCost:
    name = profile.machine.name
    try:
        cost = hw_models.estimate(trace, profile, objective=objective, devices=devices)
    except hw_models.UnsupportedOperandError as error:
        return StepCost(machine=name, refusal=str(error))
    return StepCost(
        machine=name,
        seconds=cost.seconds,
        energy_pj=devices * cost.energy_pj,
        energy_low_pj=devices * cost.energy_low_pj,
        energy_high_pj=devices * cost.energy_high_pj,
    )
