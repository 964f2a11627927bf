"""The keys of a table of numerics: those of a layer, and those of one of its GEMMs."""

from __future__ import annotations

from pydantic import Field, model_validator

from lowbit_sim.arith.mac import AccumulatorOverflow
from lowbit_sim.config.elementwise_config import ElementwiseTable
from lowbit_sim.config.gradient_config import GradientValue, Samples, TransformValue
from lowbit_sim.config.mac_config import SHORT_KEYS, Bits, FloatMacTable, MacValue
from lowbit_sim.config.quantizer_config import (
    FormatName,
    GranularityValue,
    OperandValue,
    QuantizerTable,
    ScaleValue,
)
from lowbit_sim.config.tables import RoundingTable, Strict

#: The three GEMMs of a layer, as the tables name them.
GEMM_ROLES = ("output", "grad_input", "grad_weight")
BACKWARD = ("grad_input", "grad_weight")


_CHUNK = "products summed in the inner accumulator before its sum moves on; 0 for all"
_OUTER = "width of the accumulator of the chunks' sums, and of partial sums in memory"


class GemmTable(Strict):
    """What differs in one GEMM from the layer's table. A key that is left out takes the layer's value."""

    native: bool = Field(default=False, description="whether this GEMM runs in float32")
    lhs: OperandValue | None = Field(
        default=None, description="the left operand: a format's name, or a table", examples=["int4"]
    )
    rhs: OperandValue | None = Field(
        default=None, description="the right operand: a format's name, or a table", examples=["int8"]
    )
    lhs_rounding: RoundingTable | None = Field(default=None, description="rounding of the left operand")
    accumulator_bits: Bits | None = Field(default=None, description="width of the (inner) accumulator")
    overflow: AccumulatorOverflow | None = Field(
        default=None, description="what an accumulator does at its limit"
    )
    chunk: int | None = Field(default=None, ge=0, description=_CHUNK)
    outer_bits: Bits | None = Field(default=None, description=_OUTER)
    mac: MacValue | None = Field(default=None, description="a MAC unit of its own, as a table")
    across: FloatMacTable | None = Field(
        default=None, description="with blocks, the accumulator of the blocks' scaled sums"
    )
    transform: TransformValue | None = Field(
        default=None, description="what is done to both operands before they are quantised"
    )
    samples: Samples | None = Field(
        default=None, description="independent quantisations of the left operand whose results are averaged"
    )

    @model_validator(mode="after")
    def _keys_agree(self) -> GemmTable:
        refuse_beside(self, "native")
        refuse_two_macs(self)
        if isinstance(self.lhs, QuantizerTable) and self.lhs.rounding and self.lhs_rounding:
            raise ValueError("lhs has a rounding already: leave it or lhs_rounding out")
        return self


class LayerTable(Strict):
    """The keys of a layer's table; `numerics.check_keys` and `check_numerics` say which go together."""

    format: FormatName | None = Field(
        default=None, description="format of inputs, weights and gradients", examples=["int8"]
    )
    gradient_rounding: RoundingTable | None = Field(
        default=None,
        description="rounding of the output's gradient in the two backward GEMMs; all else rounds to nearest even",
        examples=[{"mode": "stochastic", "random_bits": 8}],
    )
    gradient: GradientValue | None = Field(
        default=None,
        description="a published quantiser of the output's gradient, in place of format and gradient_rounding",
        examples=["luq"],
    )
    granularity: GranularityValue | None = Field(
        default=None,
        description='which elements share a scale: "tensor"; "channel", the forward weights of an output channel; '
        '"sample", where no GEMM sums over samples; or a table { block = ... }',
        examples=["tensor"],
    )
    scale: ScaleValue | None = Field(
        default=None, description="scale rule of every operand", examples=["absmax"]
    )
    accumulator_bits: Bits | None = Field(
        default=None, description="width of the (inner) integer accumulator in bits", examples=[32]
    )
    overflow: AccumulatorOverflow | None = Field(
        default=None, description="what an integer accumulator does at its limit", examples=["wrap"]
    )
    chunk: int | None = Field(default=None, ge=0, description=_CHUNK, examples=[64])
    outer_bits: Bits | None = Field(default=None, description=_OUTER, examples=[32])
    mac: MacValue | None = Field(
        default=None,
        description="the MAC unit as a table, in place of these four: an integer one, or with the key "
        "accumulator a floating-point one",
        examples=[{"accumulator": "fp32"}],
    )
    across: FloatMacTable | None = Field(
        default=None,
        description="with blocks, the accumulator of the blocks' scaled sums",
        examples=[{"accumulator": "fp32"}],
    )
    transform: TransformValue | None = Field(
        default=None,
        description="what is done to both operands of every GEMM before they are quantised",
        examples=[{"name": "hadamard", "block": 32}],
    )
    samples: Samples | None = Field(
        default=None,
        description="independent quantisations of the output's gradient whose results are averaged",
        examples=[2],
    )
    activations: ElementwiseTable | None = Field(
        default=None,
        description="formats of the tensors between modules, with GEMMs and without; left out, float32",
        examples=[{"output": "bf16", "grad_input": "bf16", "grad_output": "bf16"}],
    )
    output: GemmTable | None = Field(
        default=None, description="what differs in the forward GEMM (fprop)", examples=[{"rhs": "int4"}]
    )
    grad_input: GemmTable | None = Field(
        default=None,
        description="what differs in the GEMM of the input's gradient (dgrad)",
        examples=[{"native": True}],
    )
    grad_weight: GemmTable | None = Field(
        default=None,
        description="what differs in the GEMM of the weight's gradient (wgrad)",
        examples=[{"chunk": 64}],
    )

    def has_emulated_gradient(self) -> bool:
        """Whether one of the two backward GEMMs quantises the output's gradient."""
        return any(gemm is None or not gemm.native for gemm in (self.grad_input, self.grad_weight))

    def own(self, role: str) -> GemmTable:
        """The table of one of the `GEMM_ROLES`; an empty one if there is none."""
        return getattr(self, role) or GemmTable()


#: Keys of a table that are not numerics, and so may stand beside anything.
_BESIDE = {"name", "rules", "path", "clip_gradient_norm", "recipes", "training", "update", "weights"}


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
