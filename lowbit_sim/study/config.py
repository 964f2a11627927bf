"""A study: one question, as a TOML file. What is compared, on what data, how often, priced on which machines.

    title, question, seeds, profiles
    [data] [model] [training]
    [[arms]]     name, and the numerics of its layers (see `numerics_config`); optional rules for single layers

The schema is strict: an unknown key, a wrong type and an unknown name are errors that say where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lowbit_sim.config.tables import Strict
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.data import DATASETS
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.numerics_config import NumericsTable
from lowbit_sim.study.update_config import ElementwiseTable, UpdateTable

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def _list_to_tuple(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


def _known(what: str, names: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(unknown(what, name, names))
        return name

    return AfterValidator(check)


class DataTable(Strict):
    """The data set, and how many of its first training and test images to use (all, if left out)."""

    name: Annotated[str, _known("data set", DATASETS)]
    limit: Positive | None = None
    test_limit: Positive | None = None


class ModelTable(Strict):
    """The model, and the channels of its first stage (its own, if left out)."""

    name: Annotated[str, _known("model", tuple(MODELS))]
    width: Positive | None = None


class TrainingTable(Strict):
    """Hyperparameters that all arms share; see `training.settings`."""

    epochs: Positive
    batch_size: Positive
    learning_rate: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"


class RuleTable(NumericsTable):
    """Numerics for the layers whose path matches; the first rule that matches decides.

    Attributes:
        path: A module path, with shell wildcards.
        elementwise: In place of a layer's numerics, the formats of the modules without GEMMs whose path matches.
    """

    path: str = Field(min_length=1)
    elementwise: ElementwiseTable | None = None

    def _kinds(self) -> dict[str, object]:
        return {**super()._kinds(), "elementwise": self.elementwise}


class ArmTable(NumericsTable):
    """One side of the comparison: numerics for every layer, but for those that a rule takes.

    Attributes:
        name: The column's heading.
        rules: Ordered exceptions from the arm's numerics.
        clip_gradient_norm: Clip the whole gradient to this L2 norm.
        update: Formats of the weights and of the momentum that the optimiser keeps.
    """

    name: str = Field(min_length=1)
    rules: Annotated[tuple[RuleTable, ...], BeforeValidator(_list_to_tuple)] = ()
    clip_gradient_norm: float | None = Field(default=None, gt=0)
    update: UpdateTable | None = None

    @property
    def is_native(self) -> bool:
        """Whether the arm is float32 throughout: layers, element-wise modules and weight update."""
        return self.native and self.update is None and all(rule.native for rule in self.rules)


class Study(Strict):
    """A study.

    Attributes:
        title: A name of few words; the run folder is named after it.
        question: What the study is to find out.
        seeds: One run of every arm for each.
        profiles: Machines that price a training step: names, or paths of TOML files.
        data, model, training: What all arms share.
        arms: What differs. Differences are reported against the first arm that is native throughout.
    """

    title: str = Field(min_length=1)
    question: str = ""
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]
    profiles: Annotated[tuple[str, ...], BeforeValidator(_list_to_tuple)] = ()
    data: DataTable
    model: ModelTable
    training: TrainingTable
    arms: Annotated[tuple[ArmTable, ...], BeforeValidator(_list_to_tuple), Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        given: dict[str, list[Any]] = {
            "arm": [arm.name for arm in self.arms],
            "seed": list(self.seeds),
            "profile": list(self.profiles),
        }
        for what, values in given.items():
            twice = [str(value) for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is given more than once")
        return self

    @model_validator(mode="after")
    def _momentum_is_kept(self) -> Self:
        for arm in self.arms:
            if arm.update is not None and arm.update.momentum is not None and not self.training.momentum:
                raise ValueError(
                    f"arm {arm.name!r}: update.momentum would have no effect: training.momentum is 0, so none is kept"
                )
        return self
