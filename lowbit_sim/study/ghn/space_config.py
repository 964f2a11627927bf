"""The tables of a hypernetwork study that say which networks there are and how the hypernetwork learns."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from lowbit_sim.config.tables import Strict, checked
from lowbit_sim.ghn.architecture import OPERATORS
from lowbit_sim.ghn.hypernetwork import HypernetworkSizes
from lowbit_sim.ghn.settings import MetaSettings
from lowbit_sim.ghn.space import DesignSpace, TrainingSplit
from lowbit_sim.study.config import Seed
from lowbit_sim.study.training_config import Decay, Positive, Rate


def _list_to_tuple(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


#: A list in TOML, a tuple in a frozen table.
AsTuple = BeforeValidator(_list_to_tuple)
Range = Annotated[tuple[Positive, Positive], AsTuple]
Sizes = Annotated[tuple[Positive, ...], AsTuple, Field(min_length=1)]
#: At least one name.
Names = Annotated[tuple[str, ...], AsTuple, Field(min_length=1)]


class SpaceTable(Strict):
    """The space of the networks that are learned from; see `ghn.space.DesignSpace`."""

    networks: Positive
    seed: Seed = 0
    layers: Range = (4, 18)
    nodes: Range = (1, 4)
    channels: Sizes = (32, 48, 64)
    channel_multipliers: Sizes = (1, 2)
    stem_kernels: Sizes = (3, 5, 7)
    operators: Names = OPERATORS
    edges: Positive = 2
    parameter_limit: Positive = 10_000_000

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(self.build)
        return self

    def build(self) -> DesignSpace:
        """The space."""
        return DesignSpace(**self.model_dump(exclude={"networks", "seed"}))

    def training(self) -> TrainingSplit:
        """The networks that are learned from."""
        return TrainingSplit(space=self.build(), size=self.networks, seed=self.seed)


class SplitTable(Strict):
    """Held-out networks: how many, and what of the space differs."""

    networks: Positive
    layers: Range | None = None
    nodes: Range | None = None
    channels: Sizes | None = None
    channel_multipliers: Sizes | None = None
    stem_kernels: Sizes | None = None
    operators: Names | None = None
    edges: Positive | None = None
    parameter_limit: Positive | None = None

    def on(self, space: SpaceTable) -> DesignSpace:
        """The space with what differs.

        Raises:
            ValueError: A space that can't be.
        """
        own = self.model_dump(exclude_none=True, exclude={"networks"})
        return DesignSpace(**{**space.model_dump(exclude={"networks", "seed"}), **own})


class HypernetworkTable(Strict):
    """Sizes; see `ghn.hypernetwork.HypernetworkSizes`."""

    hidden: Positive = 32
    inner: Range = (128, 256)
    channels: Positive = 64
    kernel: Positive = 11
    cutoff: Positive = 50
    layer_norm: bool = True

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(self.build)
        return self

    def build(self) -> HypernetworkSizes:
        """The sizes."""
        return HypernetworkSizes(**self.model_dump())


class MetaTrainingTable(Strict):
    """Hyperparameters that all arms share; see `ghn.settings.MetaSettings`."""

    epochs: Positive
    steps_per_epoch: Positive
    meta_batch: Positive = 8
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Rate = 1e-3
    weight_decay: Decay = 1e-5
    milestones: Annotated[tuple[float, ...], AsTuple] = (2 / 3, 5 / 6)
    gradient_norm: Rate = 5.0
    node_limit: Positive = 2200

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(lambda: self.build(0))
        return self

    def build(self, seed: int) -> MetaSettings:
        """The settings of a run."""
        return MetaSettings(**self.model_dump(), seed=seed)
