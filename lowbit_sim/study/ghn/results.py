"""What a hypernetwork study found: every network's accuracies, every fine-tuning, every price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lowbit_sim.ghn.metrics import MetaEpoch, MetaResult, meta_epoch
from lowbit_sim.study.results import StudyStatus
from lowbit_sim.training.metrics import Status

#: What tells such a record from that of another study.
KIND = "graph hypernetworks"

#: What random starts are called where an arm's name stands.
RANDOM_STARTS = "He initialisation"

#: Accuracy of a network: by precision, then by the statistics of its batch-norms.
Accuracies = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class NetworkScore:
    """A held-out network with predicted weights.

    Attributes:
        split: Its split.
        number: Its number in the split.
        accuracies: On the test images.
    """

    split: str
    number: int
    accuracies: Accuracies


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """The training of a held-out network from one start.

    Attributes:
        number: The network's number in its split.
        learning_rate: The schedule's largest value.
        status: "completed" or "diverged".
        accuracies: On the test images, after each epoch that ended, at the precision that it trains for.
    """

    number: int
    learning_rate: float
    status: Status
    accuracies: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class GhnRun:
    """A hypernetwork of one seed, and what became of it.

    Attributes:
        seed: Its seed.
        training: How it learned; None for random starts, which need no hypernetwork.
        scores: Of the held-out networks.
        fine_tunings: Of the trainings that started from its predictions.
    """

    seed: int
    training: MetaResult | None
    scores: tuple[NetworkScore, ...] = ()
    fine_tunings: tuple[FineTuning, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MachinePrice:
    """What something costs on a machine, or why the machine can't run it.

    Attributes:
        machine: Its name.
        refusal: Why there is no price, or "".
        cycles, seconds, energy_pj, energy_low_pj, energy_high_pj: The price; 0 where it is refused.
        energy_by_role: The parts of the energy.
    """

    machine: str
    refusal: str = ""
    cycles: float = 0
    seconds: float = 0
    energy_pj: float = 0
    energy_low_pj: float = 0
    energy_high_pj: float = 0
    energy_by_role: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InferencePrice:
    """What the held-out networks' inference costs on a machine.

    Attributes:
        precision: Bits of weights and activations.
        networks: Of how many networks of the first split this is the mean.
        price: For one image, of a batch of 64.
    """

    precision: str
    networks: int
    price: MachinePrice


@dataclass(frozen=True, kw_only=True)
class GhnArm:
    """One arm.

    Attributes:
        name: Its name in the study.
        strategy: In words.
        steps: Updates of a whole training.
        prices: Of one update, one for each machine.
        runs: One for each seed that ended.
    """

    name: str
    strategy: str
    steps: int
    prices: tuple[MachinePrice, ...] = ()
    runs: tuple[GhnRun, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GhnResult:
    """A study, finished or not.

    Attributes:
        title, question: The study's.
        data: Description of the data set.
        classes, test_examples: Of the data set.
        seeds: The seeds asked for.
        status: How far it got.
        reason: Why it is not completed, or "".
        precisions: Those of the evaluation.
        splits: How many networks each held-out split has.
        arms: In the study's order.
        random_starts: Fine-tunings from random weights, one run a seed; empty without fine-tuning.
        inference: Prices of the networks.
        left_out: Names of the arms that were not asked for and lack runs.
        hardware: What computed.
    """

    title: str
    question: str
    data: str
    classes: int
    test_examples: int
    seeds: tuple[int, ...]
    status: StudyStatus
    reason: str = ""
    precisions: tuple[str, ...]
    splits: Mapping[str, int]
    arms: tuple[GhnArm, ...]
    random_starts: tuple[GhnRun, ...] = ()
    inference: tuple[InferencePrice, ...] = ()
    left_out: tuple[str, ...] = ()
    hardware: str = ""

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / self.classes


def to_dict(result: GhnResult) -> dict[str, Any]:
    """Everything as plain dicts, lists, strings and numbers, for JSON."""
    return {"kind": KIND, "chance": result.chance, **asdict(result)}


def ghn_result(record: Mapping[str, Any]) -> GhnResult:
    """The result of a record; see `to_dict`."""
    kept = {
        key: record[key]
        for key in ("title", "question", "data", "classes", "test_examples", "status", "reason", "hardware")
    }
    return GhnResult(
        **kept,
        seeds=tuple(record["seeds"]),
        precisions=tuple(record["precisions"]),
        splits=dict(record["splits"]),
        arms=tuple(map(_arm, record["arms"])),
        random_starts=tuple(map(ghn_run, record["random_starts"])),
        inference=tuple(
            InferencePrice(
                precision=each["precision"], networks=each["networks"], price=MachinePrice(**each["price"])
            )
            for each in record["inference"]
        ),
        left_out=tuple(record["left_out"]),
    )


def _arm(record: Mapping[str, Any]) -> GhnArm:
    return GhnArm(
        name=record["name"],
        strategy=record["strategy"],
        steps=record["steps"],
        prices=tuple(MachinePrice(**each) for each in record["prices"]),
        runs=tuple(map(ghn_run, record["runs"])),
    )


def ghn_run(record: Mapping[str, Any]) -> GhnRun:
    """A run of its table, as `dataclasses.asdict` gives it."""
    return GhnRun(
        seed=record["seed"],
        training=_training(record["training"]),
        scores=tuple(NetworkScore(**each) for each in record["scores"]),
        fine_tunings=tuple(
            FineTuning(**{**each, "accuracies": tuple(each["accuracies"])}) for each in record["fine_tunings"]
        ),
    )


def _training(record: Mapping[str, Any] | None) -> MetaResult | None:
    if record is None:
        return None
    epochs: tuple[MetaEpoch, ...] = tuple(map(meta_epoch, record["epochs"]))
    return MetaResult(status=record["status"], reason=record["reason"], epochs=epochs)
