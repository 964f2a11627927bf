"""A study's result out of its record, so that its tables and plots can be had again without running it.

A record is what `compare --json` wrote, or the result.json of a run folder. Records of any age are read: what an
older one does not hold is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.read_record import read_record
from lowbit_sim.study.recorded_cost import RecordedCost
from lowbit_sim.study.results import ArmResult, Price, SeedResult, StageCost, StudyResult
from lowbit_sim.training.metrics import TrainingResult, epoch_metrics

_OWN = ("title", "question", "data", "model", "classes", "test_examples", "batch_size", "status", "reason")
_OF_ARMS = ("name", "native", "operands", "accumulator", "gradient_rounding")
_NEWER_OWN = ("unavailable", "hardware", "measured_how")
_NEWER = ("recipes", "overrides", "training")


def read_result(path: Path) -> StudyResult:
    """The result in a record's file, or in a run folder.

    Raises:
        StudyError: A file that can't be read or is no record.
    """
    return study_result(read_record(path), str(path))


def study_result(record: Mapping[str, Any], name: str) -> StudyResult:
    """The result that a record holds.

    Args:
        record: The record.
        name: Its file, for messages.

    Raises:
        StudyError: It is no record of a study.
    """
    try:
        own = {key: record[key] for key in _OWN}
        left_out = tuple(record.get("left_out", ()))
        seeds, arms = tuple(record["seeds"]), tuple(map(_arm, record["arms"]))
        newer = {key: record[key] for key in _NEWER_OWN if key in record}
        return StudyResult(**own, **newer, seeds=seeds, arms=arms, left_out=left_out)
    except (KeyError, TypeError) as error:
        missing = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise StudyError(f"{name} is no record of lowbit-sim compare: {missing}") from None


def _arm(arm: Mapping[str, Any]) -> ArmResult:
    return ArmResult(
        **{key: arm[key] for key in _OF_ARMS},
        **{key: arm[key] for key in _NEWER if key in arm},
        prices=tuple(map(_price, arm["prices"])),
        inference=tuple(map(_price, arm.get("inference", ()))),
        runs=tuple(map(_run, arm["runs"])),
        recorded_seconds_per_step=arm["seconds_per_step"],
    )


def _price(price: Mapping[str, Any]) -> Price:
    cost = price["cost"]
    return Price(
        machine=price["machine"],
        refusal=price["refusal"],
        cost=cost and RecordedCost(values=cost),
        stages=tuple(StageCost(**stage) for stage in price.get("stages", ())),
    )


def _run(run: Mapping[str, Any]) -> SeedResult:
    training = TrainingResult(
        status=run["status"],
        reason=run["reason"],
        epochs=tuple(map(epoch_metrics, run["epochs"])),
        step_seconds=(),
    )
    return SeedResult(seed=run["seed"], training=training)
