"""One run of a hypernetwork study: an arm with a seed learns, predicts and is tested, in pieces that resume.

Its state lies in the run folder's `checkpoints/`: that of the training after each epoch, and the results after each
network that was tested or fine-tuned. What a stop cut short is computed again, with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from lowbit_sim.ghn.evaluation import BATCH_SIZE, STATISTICS, accuracy, at_precision, near_equal
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.hypernetwork import GraphHypernetwork, build_hypernetwork
from lowbit_sim.ghn.metrics import MetaEpoch, MetaResult
from lowbit_sim.ghn.network import he_initialized, with_parameters
from lowbit_sim.ghn.prediction import predict
from lowbit_sim.ghn.store import save_hypernetwork
from lowbit_sim.ghn.training import train_hypernetwork
from lowbit_sim.quant.quantizer import NotANumberError
from lowbit_sim.study.data import Dataset
from lowbit_sim.study.environment import code_digest
from lowbit_sim.study.ghn.config import ArmTable, FineTuningTable, GhnStudy
from lowbit_sim.study.ghn.fine_tuning import fine_tuned
from lowbit_sim.study.ghn.folder import GhnFolder
from lowbit_sim.study.ghn.results import RANDOM_STARTS, Accuracies, GhnRun, NetworkScore, ghn_run
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.state_file import StateFileError, read_state, write_state

_KIND = "lowbit-sim hypernetwork run 1"


class PieceEnded(Exception):  # noqa: N818 (no error: the run goes on later)
    """The time limit passed; all that was done is on the disk."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and with what the runs of a study work.

    Attributes:
        study, data, folder, device: The study, its data, its folder, and what computes.
        graphs: The graphs of each held-out split.
        tick: Called after each epoch, each network that was tested and each fine-tuning, with a line of words; what
            it raises ends the run there.
        skip: Told how many of these were there already.
        tell: Told in sentences.
    """

    study: GhnStudy
    data: Dataset
    folder: GhnFolder
    device: torch.device
    graphs: Mapping[str, list[NetworkGraph]]
    tick: Callable[[str], None]
    skip: Callable[[int], None]
    tell: Callable[[str], None]


def arm_run(place: Place, index: int, seed: int) -> GhnRun:
    """Run an arm with a seed, or what is left of it.

    Args:
        place: Where it works.
        index: The arm's number in the study.
        seed: The seed.
    """
    arm, results = place.study.arms[index], _Results(place, index, seed)
    hypernetwork, training = _trained(place, index, arm, seed)
    if results.run.training is None:
        save_hypernetwork(place.folder.hypernetwork_path(index, seed), hypernetwork)
        results.change(training=training)
    if training.status == "completed":
        _score(place, arm, hypernetwork, results)
        table = place.study.fine_tuning
        if table is not None and arm.fine_tune:
            _fine_tune(place, table, arm.name, results, lambda graph, _: predict(hypernetwork, graph))
    return results.end()


def ended_run(place: Place, index: int, seed: int) -> GhnRun | None:
    """A run that came to its end before; None where it did not."""
    results = _Results(place, index, seed)
    return results.run if results.has_ended else None


def random_starts_run(place: Place, table: FineTuningTable, seed: int) -> GhnRun:
    """Fine-tune the same networks from random weights."""
    results = _Results(place, len(place.study.arms), seed)

    def random(graph: NetworkGraph, number: int) -> dict[str, torch.Tensor]:
        network = he_initialized(graph, seed=1000 * seed + number)
        return {name: value.detach().to(place.device) for name, value in network.named_parameters()}

    _fine_tune(place, table, RANDOM_STARTS, results, random)
    return results.end()


class _Results:
    """A run's results so far, on the disk after every change."""

    def __init__(self, place: Place, index: int, seed: int) -> None:
        self._path = place.folder.base.checkpoint_path(index, seed).with_suffix(".results.safetensors")
        self.run, self.has_ended = GhnRun(seed=seed, training=None), False
        try:
            state = read_state(self._path, kind=_KIND)
            self.run, self.has_ended = ghn_run(state["run"]), state["has_ended"]
        except FileNotFoundError:
            pass
        except StateFileError as error:
            place.tell(f"{error}: what it held is computed again")

    def change(self, **fields: Any) -> None:
        """Put fields of the run in place of what they were."""
        self.run = replace(self.run, **fields)
        self._write()

    def end(self) -> GhnRun:
        """Note that the run came to its end, and give it."""
        if not self.has_ended:
            self.has_ended = True
            self._write()
        return self.run

    def _write(self) -> None:
        write_state(self._path, {"run": asdict(self.run), "has_ended": self.has_ended}, kind=_KIND)


def _trained(place: Place, index: int, arm: ArmTable, seed: int) -> tuple[GraphHypernetwork, MetaResult]:
    """The arm's hypernetwork, trained to its end."""
    study, folder = place.study, place.folder
    hypernetwork = build_hypernetwork(study.hypernetwork.build(), place.data.classes, seed=seed)

    def on_epoch(epoch: MetaEpoch) -> None:
        folder.append_metrics(arm.name, seed, epoch)

    def on_resume(epochs: int) -> None:
        folder.base.keep_metrics(arm.name, seed, epochs)
        place.skip(epochs)
        if 0 < epochs < study.training.epochs:
            place.tell(f"{arm.name}, seed {seed}: going on after epoch {epochs}")

    def on_saved() -> None:
        place.tick(f"{arm.name}, seed {seed}: learning")

    checkpoint = Checkpoint(
        path=folder.base.checkpoint_path(index, seed),
        identity={
            "arm": arm.name,
            "seed": str(seed),
            "data": place.data.description,
            "code": code_digest()[:12],
        },
        on_resume=on_resume,
        on_saved=on_saved,
        on_refused=place.tell,
    )
    hypernetwork.to(place.device)
    training = train_hypernetwork(
        hypernetwork,
        study.space.training(),
        place.data.train,
        study.training.build(seed),
        arm.build(),
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    return hypernetwork, training


def _score(place: Place, arm: ArmTable, hypernetwork: GraphHypernetwork, results: _Results) -> None:
    """Test the networks that have not been tested."""
    known = {(score.split, score.number) for score in results.run.scores}
    for split, graphs in place.graphs.items():
        for number, graph in enumerate(graphs):
            if (split, number) in known:
                place.skip(1)
                continue
            accuracies = _accuracies(place, arm, hypernetwork, graph)
            score = NetworkScore(split=split, number=number, accuracies=accuracies)
            results.change(scores=(*results.run.scores, score))
            place.tick(f"{arm.name}, seed {results.run.seed}: testing on {split}")


def _accuracies(
    place: Place, arm: ArmTable, hypernetwork: GraphHypernetwork, graph: NetworkGraph
) -> Accuracies:
    evaluation = place.study.evaluation
    parameters = predict(hypernetwork, graph)
    batches = list(
        near_equal(place.data.train.first(BATCH_SIZE * evaluation.calibration_batches), BATCH_SIZE)
    )
    found: dict[str, dict[str, float]] = {}
    for name, precision in evaluation.build(arm.weight_scale).items():
        model = at_precision(with_parameters(graph, parameters), precision, mac=evaluation.mac())
        found[name] = {}
        for statistics in STATISTICS:
            try:
                share = accuracy(model, place.data.test, statistics=statistics, calibration=batches)
            except NotANumberError:
                share = 0.0  # activations that overflowed float32: no image is right
            found[name][statistics] = round(share, 6)
    return found


def _fine_tune(
    place: Place,
    table: FineTuningTable,
    name: str,
    results: _Results,
    start: Callable[[NetworkGraph, int], Mapping[str, torch.Tensor]],
) -> None:
    """Train on from the starts that have not been trained on from."""
    known = {(each.number, each.learning_rate) for each in results.run.fine_tunings}
    for number, graph in enumerate(place.graphs[table.split][: table.networks]):
        for rate in table.learning_rates:
            if (number, rate) in known:
                place.skip(1)
                continue
            network = with_parameters(graph, start(graph, number))
            found = fine_tuned(
                table,
                network,
                place.data,
                number=number,
                learning_rate=rate,
                seed=results.run.seed,
                mac=place.study.evaluation.mac(),
            )
            results.change(fine_tunings=(*results.run.fine_tunings, found))
            place.tick(f"{name}, seed {results.run.seed}: fine-tuning")
