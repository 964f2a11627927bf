"""Trains a hypernetwork over a split of a design space; reproducible to the bit from one seed, and resumable.

Each update draws a meta-batch of networks and a batch of images, both without repetition within it, from one
generator; its state is part of the checkpoint, as are the hypernetwork, Adam and torch's generators.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from lowbit_sim.ghn.batch import GraphBatch, GraphTensors, graph_batch
from lowbit_sim.ghn.graph_builder import build_graph
from lowbit_sim.ghn.hypernetwork import GraphHypernetwork
from lowbit_sim.ghn.meta_step import LossNotFiniteError, MetaLoss, meta_gradients
from lowbit_sim.ghn.metrics import MetaEpoch, MetaResult, meta_epoch
from lowbit_sim.ghn.network import meta_network
from lowbit_sim.ghn.settings import MetaSettings, build_optimizer, learning_rate
from lowbit_sim.ghn.space import TrainingSplit
from lowbit_sim.ghn.strategies import PreparedNetwork, Strategy
from lowbit_sim.quant.quantizer import NotANumberError
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.device import device_name, device_of
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.metagrad.billing import bill_phi

#: Networks that stay prepared; those of a larger split are made again when they are drawn again.
_PREPARED = 512


def train_hypernetwork(
    hypernetwork: GraphHypernetwork,
    networks: TrainingSplit,
    images: Examples,
    settings: MetaSettings,
    strategy: Strategy,
    *,
    on_epoch: Callable[[MetaEpoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> MetaResult:
    """Train a hypernetwork in place.

    Args:
        hypernetwork: The hypernetwork, on the device to train on.
        networks: The architectures that it learns from.
        images: Inputs float32 [N, C, H, W] and their classes.
        settings: Hyperparameters and the seed.
        strategy: How the networks are quantised meanwhile.
        on_epoch: Called with each epoch's metrics as it ends.
        checkpoint: Where the state is kept at the end of each epoch, after `on_epoch`; where there is one already,
            training goes on from it, bit for bit.

    Raises:
        CheckpointError: A checkpoint of another run.
        ValueError: More networks in a meta-batch, or images in a batch, than there are.
    """
    run = MetaTraining(hypernetwork, networks, images, settings, strategy)
    status, reason = "completed", ""
    with deterministic(settings.seed, run.device):
        if checkpoint is not None:
            run.resume(checkpoint)
        try:
            while len(run.epochs) < settings.epochs:
                run.epochs.append(run.epoch())
                if on_epoch is not None:
                    on_epoch(run.epochs[-1])
                if checkpoint is not None:
                    run.save(checkpoint)
        except (LossNotFiniteError, NotANumberError) as error:
            status, reason = "diverged", f"epoch {len(run.epochs)}: {error}"
    return MetaResult(status=status, reason=reason, epochs=tuple(run.epochs))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    """A network of the split, ready to train."""

    tensors: GraphTensors
    network: PreparedNetwork


class MetaTraining:
    """The state that a run carries from update to update; see `train_hypernetwork`."""

    def __init__(
        self,
        hypernetwork: GraphHypernetwork,
        networks: TrainingSplit,
        images: Examples,
        settings: MetaSettings,
        strategy: Strategy,
    ) -> None:
        for what, asked, there in (
            ("networks in a meta-batch", settings.meta_batch, len(networks)),
            ("images in a batch", settings.batch_size, len(images)),
        ):
            if asked > there:
                raise ValueError(f"there are {there} to draw {asked} {what} from")
        self.hypernetwork, self.networks, self.images = hypernetwork, networks, images
        self.settings, self.strategy = settings, strategy
        self.device = device_of(hypernetwork)
        self.optimizer = build_optimizer(hypernetwork, settings)
        self.draw = torch.Generator().manual_seed(settings.seed)
        self.steps_taken = 0
        self.epochs: list[MetaEpoch] = []
        self._prepared: OrderedDict[int, _Candidate] = OrderedDict()
        hypernetwork.train()

    def epoch(self) -> MetaEpoch:
        """The next epoch."""
        start, steps = time.perf_counter(), self.settings.steps_per_epoch
        loss = norms = rate = 0.0
        correct = images = 0
        for _ in range(steps):
            rate = learning_rate(self.settings, self.steps_taken)
            found, norm = self.step(rate)
            loss, norms = loss + found.loss / steps, norms + norm / steps
            correct, images = correct + found.correct, images + found.images
        return MetaEpoch(
            epoch=len(self.epochs),
            learning_rate=rate,
            train_loss=loss,
            train_accuracy=correct / images,
            gradient_norm=norms,
            steps=steps,
            seconds=time.perf_counter() - start,
        )

    def step(self, rate: float) -> tuple[MetaLoss, float]:
        """One update; what it found, and the norm of its gradient.

        Args:
            rate: Adam's learning rate.
        """
        chosen, graphs, batch = self.drawn()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        found = meta_gradients(self.hypernetwork, chosen, graphs, batch, step=self.steps_taken)
        norm = nn.utils.clip_grad_norm_(
            self.hypernetwork.parameters(), self.settings.gradient_norm, foreach=False
        )
        self.optimizer.step()
        bill_phi(self.optimizer)
        self.steps_taken += 1
        return found, float(norm)

    def drawn(self) -> tuple[list[PreparedNetwork], GraphBatch, Examples]:
        """The networks, their graphs and the images of the next update."""
        numbers = self._distinct(len(self.networks), self.settings.meta_batch)
        places = torch.tensor(self._distinct(len(self.images), self.settings.batch_size))
        batch = Examples(inputs=self.images.inputs[places], targets=self.images.targets[places])
        candidates = self._within_limit([self._candidate(number) for number in numbers])
        graphs = graph_batch(
            [each.tensors for each in candidates], cutoff=self.hypernetwork.sizes.cutoff, device=self.device
        )
        return [each.network for each in candidates], graphs, batch.to(self.device)

    def _distinct(self, count: int, wanted: int) -> list[int]:
        """Different numbers below `count`; from a large set by drawing again, so that no permutation is made."""
        if count <= 4 * wanted:
            return torch.randperm(count, generator=self.draw)[:wanted].tolist()
        found: dict[int, None] = {}
        while len(found) < wanted:
            found[int(torch.randint(count, (1,), generator=self.draw))] = None
        return list(found)

    def _within_limit(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """The first of them whose nodes are not too many together; always one."""
        kept, nodes = candidates[:1], len(candidates[0].tensors.graph)
        for each in candidates[1:]:
            nodes += len(each.tensors.graph)
            if nodes > self.settings.node_limit:
                break
            kept.append(each)
        return kept

    def _candidate(self, number: int) -> _Candidate:
        if number not in self._prepared:
            graph = build_graph(self.networks[number], self.images.inputs.shape[1], self.hypernetwork.classes)
            self._prepared[number] = _Candidate(
                tensors=GraphTensors(graph, self.hypernetwork.classes),
                network=self.strategy.prepared(meta_network(graph), seed=self.settings.seed),
            )
            if len(self._prepared) > _PREPARED:
                self._prepared.popitem(last=False)
        return self._prepared[number]

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep all that the coming updates depend on, and the metrics so far."""
        on_cuda = self.device.type == "cuda"
        state: dict[str, Any] = {
            "hypernetwork": dict(self.hypernetwork.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "draw": self.draw.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if on_cuda else None,
            "epochs": [asdict(each) for each in self.epochs],
            "steps_taken": self.steps_taken,
        }
        checkpoint.save(state, self._identity(checkpoint))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, if there is one."""
        state = checkpoint.load(self._identity(checkpoint))
        if state is not None:
            self.hypernetwork.load_state_dict(state["hypernetwork"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.draw.set_state(state["draw"])
            torch.set_rng_state(state["torch"])
            if state["cuda"] is not None:
                torch.cuda.set_rng_state(state["cuda"], self.device)
            self.epochs = [meta_epoch(each) for each in state["epochs"]]
            self.steps_taken = state["steps_taken"]
        checkpoint.on_resume(len(self.epochs))

    def _identity(self, checkpoint: Checkpoint) -> dict[str, str]:
        """What a run is: what its checkpoint's owner says, and what is known here."""
        return {
            **checkpoint.identity,
            "settings": str(self.settings),
            "strategy": f"{self.strategy}, numerics {self.strategy.numerics}",
            "hypernetwork": f"{self.hypernetwork.sizes}, {self.hypernetwork.classes} classes",
            "networks": str(self.networks),
            "examples": str(len(self.images)),
            "torch": torch.__version__,
            "device": device_name(self.device),
        }
