"""`{ name = "metagrad", hypernetwork = "moment_fc", learning_rate = 1e-3 }`: see `training.metagrad.recipe`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.quantizer_config import FormatName, OperandValue, build_quantizer, full_table
from lowbit_sim.config.tables import checked
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.rules import Rule
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.training.metagrad.hypernetworks import Activation, FCGrad, Hypernetwork, Initial, MultiFC
from lowbit_sim.training.metagrad.lstm_fc import LSTMFC
from lowbit_sim.training.metagrad.moment_fc import MomentFC
from lowbit_sim.training.metagrad.phi import PhiOptimizerName, PhiTraining, Schedule
from lowbit_sim.training.metagrad.recipe import MetaGrad
from lowbit_sim.training.metagrad.refinement import Refinement

HypernetworkName = Literal["fc_grad", "multi_fc", "lstm_fc", "moment_fc"]

#: What makes each hypernetwork, and its own keys with their defaults.
HYPERNETWORKS: dict[str, tuple[Callable[..., Hypernetwork], dict[str, Any]]] = {
    "fc_grad": (FCGrad, {"hidden": 100, "activation": "none", "initial": "identity"}),
    "multi_fc": (MultiFC, {"hidden": 100, "layers": 2, "activation": "none", "initial": "identity"}),
    "lstm_fc": (LSTMFC, {"hidden": 20, "initial": "identity"}),
    "moment_fc": (MomentFC, {"hidden": 8, "moment_decay": 0.9}),
}

_OWN = ("hidden", "layers", "activation", "initial", "moment_decay")


def _list_to_tuple(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


class MetaGradTable(RecipeTable):
    """Correct gradients with a hypernetwork that the next step's loss trains.

    Attributes:
        hypernetwork: Which one.
        hidden, layers, activation, initial, moment_decay: The hypernetwork's own; see `HYPERNETWORKS`.
        format: Format of all operands of the hypernetwork's GEMMs; left out, float32.
        learning_rate, optimizer, schedule: How the hypernetwork's parameters are trained; see `PhiTraining`.
        parameters: Names of the parameters to correct, with shell wildcards; left out, weights of emulated layers.
        gradient_quantizer: Q_G: a format's name, or an operand's table.
        refinement: How the optimiser's update passes the derivative on.
    """

    name: Literal["metagrad"]
    hypernetwork: HypernetworkName = "moment_fc"
    hidden: int | None = None
    layers: int | None = None
    activation: Activation | None = None
    initial: Initial | None = None
    moment_decay: float | None = None
    format: FormatName | None = None
    learning_rate: float = Field(default=1e-3, ge=0)
    optimizer: PhiOptimizerName = "adam"
    schedule: Schedule = "base"
    parameters: Annotated[tuple[str, ...] | None, BeforeValidator(_list_to_tuple)] = None
    gradient_quantizer: OperandValue | None = None
    refinement: Refinement = "exact"

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        known = HYPERNETWORKS[self.hypernetwork][1]
        for key in _OWN:
            if getattr(self, key) is not None and key not in known:
                raise ValueError(f"{self.hypernetwork} has no {key}: its own keys are {', '.join(known)}")
        checked(lambda: self._recipe(seed=0))
        return self

    def build(self, context: RecipeContext) -> MetaGrad:
        """The recipe."""
        return self._recipe(context.seed)

    def written(self) -> Self:
        """With the hypernetwork's own keys and the quantiser spelled out."""
        filled: dict[str, Any] = self._own_keys()
        value = self.gradient_quantizer
        if value is not None:
            name = value if isinstance(value, str) else value.format
            filled["gradient_quantizer"] = full_table(build_quantizer(value), name)
        return self.model_copy(update=filled)

    def _own_keys(self) -> dict[str, Any]:
        defaults = HYPERNETWORKS[self.hypernetwork][1]
        given = {key: getattr(self, key) for key in defaults}
        return {key: defaults[key] if value is None else value for key, value in given.items()}

    def _recipe(self, seed: int) -> MetaGrad:
        hypernetwork = HYPERNETWORKS[self.hypernetwork][0](**self._own_keys(), seed=seed)
        if self.format is not None:
            convert(hypernetwork, [Rule("*", OpSpec.uniform(parse_format(self.format)))], seed=seed)
        return MetaGrad(
            hypernetwork,
            phi=PhiTraining(
                learning_rate=self.learning_rate, optimizer=self.optimizer, schedule=self.schedule
            ),
            parameters=self.parameters,
            gradient_quantizer=None
            if self.gradient_quantizer is None
            else build_quantizer(self.gradient_quantizer),
            refinement=self.refinement,
            seed=seed,
        )
