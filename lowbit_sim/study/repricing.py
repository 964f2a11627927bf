"""Prices the arms of a record on another machine than those that the study named.

A record holds its study; the arms are built from it again, and one training step of each is traced and priced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hw_models
from lowbit_sim.study.arms import priced_arm
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import parse_study
from lowbit_sim.study.results import Price
from lowbit_sim.study.to_accuracy import StepCost


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file.

    Raises:
        StudyError: A file that can't be read or is no JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(
            f"can't read the record {path} ({error}): expected what compare --json wrote, or the result.json of a "
            "run folder"
        ) from None
    if not isinstance(record, dict):
        raise StudyError(f"{path} is no record of lowbit-sim compare: it holds a {type(record).__name__}")
    return record


def repriced(
    record: Mapping[str, Any],
    profile: hw_models.HardwareProfile,
    *,
    folder: Path,
    data_root: Path | None = None,
) -> dict[str, list[StepCost]]:
    """The cost of a training step of each arm on a machine, as the record's study would be priced today.

    Args:
        record: What `compare` wrote.
        profile: The machine.
        folder: The record's, which relative paths in the study start from.
        data_root: Folder of the data sets, whose shapes the model takes.

    Raises:
        StudyError: A record without its study, or a study that can't be built here.
    """
    if "study" not in record:
        raise StudyError("the record does not hold its study, so its arms can't be priced on another machine")
    study = parse_study({**record["study"], "profiles": []}, "the record's study", folder)
    data = load(study.data.name, data_root, limit=study.data.limit, test_limit=study.data.test_limit)
    return {
        arm.name: [_step_cost(price) for price in priced_arm(study, arm, data, [profile]).prices]
        for arm in study.arms
    }


def _step_cost(price: Price) -> StepCost:
    cost = price.cost
    if cost is None:
        return StepCost(machine=price.machine, refusal=price.refusal)
    return StepCost(
        machine=price.machine,
        seconds=cost.seconds,
        energy_pj=cost.energy_pj,
        energy_low_pj=cost.energy_low_pj,
        energy_high_pj=cost.energy_high_pj,
    )
