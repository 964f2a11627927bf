"""The keys of the numerics tables of a study: those of a layer, and those of one of its GEMMs."""

from __future__ import annotations

from pydantic import Field, model_validator

from lowbit_sim.arith.mac import AccumulatorOverflow
from lowbit_sim.study.gradient_config import GradientValue, Samples, TransformValue
from lowbit_sim.study.mac_config import SHORT_KEYS, Bits, FloatMacTable, MacValue
from lowbit_sim.study.quantizer_config import (
    FormatName,
    GranularityValue,
    OperandValue,
    QuantizerTable,
    ScaleValue,
)
from lowbit_sim.study.tables import RoundingTable, Strict

#: The three GEMMs of a layer, as the tables name them.
GEMM_ROLES = ("output", "grad_input", "grad_weight")
BACKWARD = ("grad_input", "grad_weight")


class GemmTable(Strict):
    """What differs in one GEMM from the layer's table. A key that is left out takes the layer's value."""

    native: bool = False
    lhs: OperandValue | None = None
    rhs: OperandValue | None = None
    lhs_rounding: RoundingTable | None = None
    accumulator_bits: Bits | None = None
    overflow: AccumulatorOverflow | None = None
    chunk: int | None = Field(default=None, ge=0)
    outer_bits: Bits | None = None
    mac: MacValue | None = None
    across: FloatMacTable | None = None
    transform: TransformValue | None = None
    samples: Samples | None = None

    @model_validator(mode="after")
    def _keys_agree(self) -> GemmTable:
        refuse_beside(self, "native")
        refuse_two_macs(self)
        if isinstance(self.lhs, QuantizerTable) and self.lhs.rounding and self.lhs_rounding:
            raise ValueError("lhs has a rounding already: leave it or lhs_rounding out")
        return self


class LayerTable(Strict):
    """The keys of a layer's table; `NumericsTable` says which go together.

    Attributes:
        native: In float32.
        profile: As the machine of this profile does.
        format: Format of inputs, weights and gradients.
        gradient_rounding: Rounding of the output's gradient in the two backward GEMMs.
        gradient: A published quantiser of the output's gradient, in place of `format` and `gradient_rounding`.
        granularity: "tensor"; "channel" for one scale for each output channel of the forward weights; "sample"
            for one for each sample, where no GEMM sums over them; or a table { block = ... }.
        scale: Scale rule of every operand.
        accumulator_bits, overflow, chunk, outer_bits: The MAC unit, as in `MacUnit`.
        mac: The MAC unit as a table, in place of these four.
        across: With blocks, the accumulator of the blocks' scaled sums.
        transform: What is done to both operands of every GEMM before they are quantised.
        samples: Independent quantisations of the output's gradient whose results are averaged.
        output, grad_input, grad_weight: What differs in one of the three GEMMs.
    """

    native: bool = False
    profile: str | None = None
    format: FormatName | None = None
    gradient_rounding: RoundingTable | None = None
    gradient: GradientValue | None = None
    granularity: GranularityValue | None = None
    scale: ScaleValue | None = None
    accumulator_bits: Bits | None = None
    overflow: AccumulatorOverflow | None = None
    chunk: int | None = Field(default=None, ge=0)
    outer_bits: Bits | None = None
    mac: MacValue | None = None
    across: FloatMacTable | None = None
    transform: TransformValue | None = None
    samples: Samples | None = None
    output: GemmTable | None = None
    grad_input: GemmTable | None = None
    grad_weight: GemmTable | None = None

    def has_emulated_gradient(self) -> bool:
        """Whether one of the two backward GEMMs quantises the output's gradient."""
        backward = (self.grad_input, self.grad_weight)
        return not self.native and any(gemm is None or not gemm.native for gemm in backward)

    def own(self, role: str) -> GemmTable:
        """The table of one of the `GEMM_ROLES`; an empty one if there is none."""
        return getattr(self, role) or GemmTable()


#: Keys of a table that are not numerics, and so may stand beside anything.
_BESIDE = {"name", "rules", "path", "clip_gradient_norm", "update"}


def refuse_beside(table: Strict, key: str) -> None:
    """Keys that the one given would leave without effect are errors.

    Raises:
        ValueError: Naming them.
    """
    if not getattr(table, key):
        return
    others = sorted(table.model_fields_set - {key} - _BESIDE)
    # By identity: a chunk of 0 equals False, but has been given.
    others = [
        other for other in others if getattr(table, other) is not None and getattr(table, other) is not False
    ]
    if others:
        raise ValueError(f"{', '.join(others)} would have no effect beside {key}: leave {key} or them out")


def short_keys(table: GemmTable | LayerTable) -> list[str]:
    """The keys of an integer MAC unit that a table gives outside of `mac`."""
    return [key for key in SHORT_KEYS if getattr(table, key) is not None]


def refuse_two_macs(table: GemmTable | LayerTable) -> None:
    """Keys of a MAC unit beside its table are errors.

    Raises:
        ValueError: Naming them.
    """
    given = short_keys(table)
    if table.mac is not None and given:
        raise ValueError(f"{', '.join(given)} would have no effect beside mac: write them into mac's table")
