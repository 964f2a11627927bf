"""Small studies and results that the study tests share."""

from dataclasses import replace
from typing import Any

from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.study.config import Study
from lowbit_sim.study.results import ArmResult, Price, SeedResult, StudyResult
from lowbit_sim.training.metrics import EpochMetrics, TrainingResult

ARMS: list[dict[str, Any]] = [
    {"name": "fp32", "native": True},
    {"name": "int8", "format": "int8", "accumulator_bits": 16, "overflow": "saturate"},
]


def study_table(**changes: Any) -> dict[str, Any]:
    """A study as a TOML file would give it: a mlp on a few digits, two arms, one seed, no machines."""
    table: dict[str, Any] = {
        "title": "tiny",
        "seeds": [0],
        "data": {"name": "digits", "limit": 64, "test_limit": 50},
        "model": {"name": "mlp", "width": 8},
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.1},
        "arms": ARMS,
    }
    return {**table, **changes}


def study(**changes: Any) -> Study:
    return Study.model_validate(study_table(**changes))


def metrics(
    epoch: int = 0,
    accuracy: float = 0.9,
    additions: int = 0,
    overflows: int | None = 0,
    operands: OperandCounts = OperandCounts(elements=0),
) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        learning_rate=0.1,
        train_loss=0.5,
        train_accuracy=0.8,
        test_loss=0.6,
        test_accuracy=accuracy,
        additions=additions,
        overflows=overflows,
        seconds=1.0,
        operands=operands,
    )


def run(seed: int = 0, accuracy: float | None = 0.9, **changes: Any) -> SeedResult:
    """A run of one epoch; without an accuracy, one that diverged after it."""
    return SeedResult(
        seed=seed,
        training=TrainingResult(
            status="completed" if accuracy is not None else "diverged",
            reason="" if accuracy is not None else "epoch 1: the training loss is nan",
            epochs=(metrics(accuracy=accuracy or 0.5, **changes),),
            step_seconds=(0.010, 0.012, 5.0),
        ),
    )


def measured_run(seed: int, gains: list[float]) -> SeedResult:
    """A run of as many epochs as there are values of a recipe's measurement "metagrad.gain"."""
    epochs = tuple(
        replace(metrics(number), measurements={"metagrad.gain": gain}) for number, gain in enumerate(gains)
    )
    return replace(run(seed), training=replace(run(seed).training, epochs=epochs))


def arm(
    name: str = "int8", runs: tuple[SeedResult, ...] = (), prices: tuple[Price, ...] = (), **changes: Any
) -> ArmResult:
    values: dict[str, Any] = {
        "native": False,
        "operands": "int8",
        "accumulator": "16-bit saturate",
        "gradient_rounding": "nearest_even",
    }
    return ArmResult(name=name, runs=runs, prices=prices, **{**values, **changes})


def native_arm(runs: tuple[SeedResult, ...] = (), prices: tuple[Price, ...] = ()) -> ArmResult:
    return arm(
        "fp32", runs, prices, native=True, operands="fp32", accumulator="fp32", gradient_rounding="none"
    )


def result(*arms: ArmResult, **changes: Any) -> StudyResult:
    values: dict[str, Any] = {
        "title": "tiny",
        "question": "Does it learn?",
        "data": "scikit-learn digits",
        "model": "mlp",
        "classes": 10,
        "test_examples": 355,
        "batch_size": 32,
        "seeds": (0, 1),
        "status": "completed",
    }
    return StudyResult(arms=arms, **{**values, **changes})
