"""Numerics outside of the GEMMs: in which formats weights are updated.

update = { weight = "bf16", momentum = "bf16", rounding = { mode = "stochastic", random_bits = 16 } }
"""

from __future__ import annotations

from pydantic import model_validator

from lowbit_sim.config.quantizer_config import OperandValue, QuantizerTable, build_quantizer, full_table
from lowbit_sim.config.tables import RoundingTable, Strict, checked
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.training.update_spec import StateReads, UpdateSpec


class UpdateTable(Strict):
    """The formats in which the optimiser keeps and reads its tensors; what is left out stays in float32.

    Floats, fixed-point numbers and posits are casts without a scale unless a table gives one.

    Attributes:
        weight, momentum, second_moment, gradient: As in `UpdateSpec`.
        rounding: Rounding of those that give none.
        state_reads: As in `UpdateSpec`.
    """

    weight: OperandValue | None = None
    momentum: OperandValue | None = None
    second_moment: OperandValue | None = None
    gradient: OperandValue | None = None
    rounding: RoundingTable | None = None
    state_reads: StateReads = "rounded"

    @model_validator(mode="after")
    def _is_valid(self) -> UpdateTable:
        operands = [value for key in _KEPT if (value := getattr(self, key)) is not None]
        if not operands:
            raise ValueError(f"give one or more of {', '.join(_KEPT)}")
        if self.rounding is not None and all(isinstance(o, QuantizerTable) and o.rounding for o in operands):
            raise ValueError("rounding would have no effect: every tensor has its own")
        checked(self.build)
        return self

    def build(self) -> UpdateSpec:
        """The numerics.

        Raises:
            ValueError, TypeError: As `Quantizer` and `UpdateSpec`.
        """
        rounding = (self.rounding or RoundingTable(mode="nearest_even")).build()
        given = {key: getattr(self, key) for key in _KEPT}
        built = {key: v and build_quantizer(v, rounding=rounding, cast=True) for key, v in given.items()}
        return UpdateSpec(**built, state_reads=self.state_reads)

    def written(self) -> UpdateTable:
        """The table with every default written out, in the tensors' own tables."""
        spec = self.build()
        return self.model_copy(update={**_written(self, spec, _KEPT), "rounding": None})


_KEPT = ("weight", "momentum", "second_moment", "gradient")


def _written(table: Strict, spec: object, keys: tuple[str, ...]) -> dict[str, QuantizerTable]:
    filled = {}
    for key in keys:
        value, quantizer = getattr(table, key), getattr(spec, key)
        if isinstance(quantizer, Quantizer):
            filled[key] = full_table(quantizer, value if isinstance(value, str) else value.format)
    return filled
