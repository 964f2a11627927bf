"""`{ name = "error_feedback", quantizer = "int4" }`: see `training.error_feedback`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from lowbit_sim.config.quantizer_config import OperandValue, QuantizerTable, build_quantizer, full_table
from lowbit_sim.config.tables import checked
from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.training.error_feedback import ErrorFeedback


def _list_to_tuple(value: Any) -> Any:
    """TOML's arrays are lists; a frozen table holds tuples."""
    return tuple(value) if isinstance(value, list) else value


class ErrorFeedbackTable(RecipeTable):
    """Quantise the gradients of weights, and add what that loses to the next ones.

    Attributes:
        quantizer: A format's name, or an operand's table.
        parameters: Names of the parameters, with shell wildcards; left out, those with two axes or more.
    """

    name: Literal["error_feedback"]
    quantizer: OperandValue
    parameters: Annotated[tuple[str, ...] | None, BeforeValidator(_list_to_tuple)] = None

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        checked(lambda: self._recipe(seed=0))
        return self

    def build(self, context: RecipeContext) -> ErrorFeedback:
        """The recipe."""
        return self._recipe(context.seed)

    def written(self) -> Self:
        """With the quantiser spelled out."""
        name = self.quantizer if isinstance(self.quantizer, str) else self.quantizer.format
        table: QuantizerTable = full_table(build_quantizer(self.quantizer), name)
        return self.model_copy(update={"quantizer": table})

    def described(self) -> str:
        """The quantiser as an operand is described, and the names of the parameters if they are given."""
        of = f", {' '.join(self.parameters)}" if self.parameters is not None else ""
        return f"{self.name} ({build_quantizer(self.quantizer)}{of})"

    def _recipe(self, seed: int) -> ErrorFeedback:
        quantizer = build_quantizer(self.quantizer)
        return ErrorFeedback(quantizer=quantizer, parameters=self.parameters, seed=seed)
