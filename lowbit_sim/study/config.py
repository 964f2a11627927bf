"""A study: one question, as a TOML file. What is compared, on what data, how often, priced on which machines.

    title, question, seeds, profiles
    [data] [model] [training]
    [[arms]]     name, and the numerics of its layers (see `numerics_config`); optional rules for single layers,
                 recipes, and hyperparameters in place of the study's

The schema is strict: an unknown key, a wrong type and an unknown name are errors that say where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lowbit_sim.config.elementwise_config import ElementwiseTable
from lowbit_sim.config.tables import KeyedError, Strict
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.data import DATASETS
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.numerics_config import NumericsTable
from lowbit_sim.study.recipes import AnyRecipe
from lowbit_sim.study.training_config import Positive, TrainingOverrides, TrainingTable
from lowbit_sim.study.update_config import UpdateTable

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def _list_to_tuple(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list, as in [ ... ]")
    return tuple(value)


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


class RuleTable(NumericsTable):
    """Numerics for the layers whose path matches; the first rule that matches decides.

    Attributes:
        path: A module path, with shell wildcards.
        elementwise: In place of a layer's numerics, the formats of the modules without GEMMs whose path matches.
    """

    path: str = Field(min_length=1)
    elementwise: ElementwiseTable | None = None

    @model_validator(mode="after")
    def _fits_single_layers(self) -> Self:
        if not isinstance(self.native, bool):
            raise KeyedError(
                ("native",),
                f'a model is in {self.native} as a whole: give the arm native = "{self.native}", or the rule '
                "native = true or a format",
            )
        if self.weights is not None and self.elementwise is not None:
            raise KeyedError(
                ("weights",), "this rule is for modules without weights: leave elementwise or it out"
            )
        return self

    def _kinds(self) -> dict[str, object]:
        return {**super()._kinds(), "elementwise": self.elementwise}


class ArmTable(NumericsTable):
    """One side of the comparison: numerics for every layer, but for those that a rule takes.

    Attributes:
        name: The column's heading.
        rules: Ordered exceptions from the arm's numerics.
        clip_gradient_norm: Clip the whole gradient to this L2 norm, as it stands after the recipes.
        recipes: Training algorithms, which act in this order.
        training: Hyperparameters in place of the study's.
        update: Formats of the weights and of the momentum that the optimiser keeps.
    """

    name: str = Field(min_length=1)
    rules: Annotated[tuple[RuleTable, ...], BeforeValidator(_list_to_tuple)] = ()
    clip_gradient_norm: float | None = Field(default=None, gt=0)
    recipes: Annotated[tuple[AnyRecipe, ...], BeforeValidator(_list_to_tuple)] = ()
    training: TrainingOverrides | None = None
    update: UpdateTable | None = None

    @model_validator(mode="after")
    def _clips_once(self) -> Self:
        if self.clip_gradient_norm is not None and any(r.name == "clip_gradient_norm" for r in self.recipes):
            raise ValueError("clip_gradient_norm is given twice: as a key and among the recipes")
        return self

    @model_validator(mode="after")
    def _has_each_recipe_once(self) -> Self:
        names = [recipe.name for recipe in self.recipes]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise KeyedError(
                    ("recipes", number),
                    f"{name} is given twice: the second would change what the first has made, with the same random "
                    "bits; give it once",
                )
        return self

    @model_validator(mode="after")
    def _is_native_as_a_whole(self) -> Self:
        if self.native == "int8":
            self._leaves_layers_to_float32()
        elif self.rules and not isinstance(self.native, bool):
            raise KeyedError(
                ("rules",), f'a model is in {self.native} as a whole: native = "{self.native}" takes no rules'
            )
        return self

    def _leaves_layers_to_float32(self) -> None:
        """Beside native INT8 layers there are native float32 ones, and nothing that is emulated."""
        for number, rule in enumerate(self.rules):
            if rule.native is not True or rule.weights is not None:
                raise KeyedError(
                    ("rules", number), 'beside native = "int8" a rule is native = true, for layers in float32'
                )
        if self.weights is not None:
            raise KeyedError(("weights",), 'native = "int8" reads weights as they are: leave weights out')
        for number, recipe in enumerate(self.recipes):
            if recipe.name == "metagrad" and not recipe.parameters:  # pyright: ignore[reportAttributeAccessIssue]
                raise KeyedError(
                    ("recipes", number),
                    'metagrad corrects the weights of emulated layers, and native = "int8" has none: name its '
                    'parameters, or use format = "int8"',
                )

    @property
    def is_native(self) -> bool:
        """Whether the arm is float32 throughout: layers, element-wise modules, weights and their update."""
        layers = (self, *self.rules)
        return self.update is None and all(each.native is True and each.weights is None for each in layers)


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
    def _hyperparameters_fit(self) -> Self:
        _check_accumulation(self.training, ("training", "accumulation"))
        for number, arm in enumerate(self.arms):
            training = self.training_of(arm)
            if arm.training is not None:
                _check_accumulation(training, ("arms", number, "training"))
            _check_optimizer(arm, training)
        return self

    def training_of(self, arm: ArmTable) -> TrainingTable:
        """The hyperparameters of an arm."""
        return self.training if arm.training is None else arm.training.on(self.training)


def _check_optimizer(arm: ArmTable, training: TrainingTable) -> None:
    """Refuse what the arm's optimiser would not read."""
    usual = TrainingTable.model_fields["second_moment_decay"].default
    if training.optimizer == "sgd" and training.second_moment_decay != usual:
        raise ValueError(
            f"arm {arm.name!r}: training.second_moment_decay would have no effect: SGD keeps no second moment; "
            'give optimizer = "adam" or "adamw"'
        )
    if arm.update is None:
        return
    if arm.update.momentum is not None and training.optimizer == "sgd" and not training.momentum:
        raise ValueError(
            f"arm {arm.name!r}: update.momentum would have no effect: training.momentum is 0, so none is kept"
        )
    if arm.update.second_moment is not None and training.optimizer == "sgd":
        raise ValueError(
            f"arm {arm.name!r}: update.second_moment would have no effect: SGD keeps no second moment; give "
            'optimizer = "adam" or "adamw"'
        )


def _check_accumulation(training: TrainingTable, key: tuple[str | int, ...]) -> None:
    if training.accumulation > training.batch_size:
        raise KeyedError(
            key,
            f"a step of {training.batch_size} examples has no {training.accumulation} micro-batches: give at most "
            "as many as there are examples",
        )
