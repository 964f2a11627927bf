"""The numerics part of a study file: one table that says how a layer computes, and its `OpSpec`.

native = true                                      float32
profile = "NAME"                                   the arithmetic of a machine
format = "int8", accumulator_bits = 16, ...        spelled out, for the three GEMMs alike,
grad_weight = { lhs = "int4", chunk = 32, ... }    with overrides for one of them
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.functional_validators import AfterValidator

import hw_models
from lowbit_sim.arith.mac import AccumulatorOverflow, MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, PowerOfTwoScale, ScaleRule


class Strict(BaseModel):
    """A table: unknown keys, converted types, NaN and infinity are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def _integer_format(name: str) -> str:
    if not isinstance(parse_format(name), IntFormat):
        raise ValueError(f"{name!r} is a float format, but the accumulators are integer ones")
    return name


FormatName = Annotated[str, AfterValidator(_integer_format)]
Bits = Annotated[int, Field(ge=8, le=64)]

#: The three GEMMs of a layer, as the tables name them.
GEMM_ROLES = ("output", "grad_input", "grad_weight")


class RoundingTable(Strict):
    """A rounding: mode, and the random bits of a stochastic one."""

    mode: str
    random_bits: int = 0

    @model_validator(mode="after")
    def _is_valid(self) -> RoundingTable:
        self.build()
        return self

    def build(self) -> Rounding:
        """The rounding."""
        return Rounding(self.mode, random_bits=self.random_bits)


class GemmTable(Strict):
    """What differs in one GEMM from the layer's table. A key that is left out takes the layer's value."""

    native: bool = False
    lhs: FormatName | None = None
    rhs: FormatName | None = None
    lhs_rounding: RoundingTable | None = None
    accumulator_bits: Bits | None = None
    overflow: AccumulatorOverflow | None = None
    chunk: int | None = Field(default=None, ge=0)
    outer_bits: Bits | None = None

    @model_validator(mode="after")
    def _native_is_alone(self) -> GemmTable:
        _refuse_beside(self, "native")
        return self


class NumericsTable(Strict):
    """How a layer computes: exactly one of `native`, `profile` and `format`; the rest goes with `format`.

    Attributes:
        native: In float32.
        profile: As the machine of this profile does.
        format: Format of inputs, weights and gradients.
        gradient_rounding: Rounding of the output's gradient in the two backward GEMMs.
        granularity: "tensor", or "channel" for one scale for each output channel of the forward weights.
        scale: Scale rule of every operand.
        accumulator_bits, overflow, chunk, outer_bits: The MAC unit, as in `MacUnit`.
        output, grad_input, grad_weight: What differs in one of the three GEMMs.
    """

    native: bool = False
    profile: str | None = None
    format: FormatName | None = None
    gradient_rounding: RoundingTable | None = None
    granularity: Literal["tensor", "channel"] | None = None
    scale: Literal["absmax", "power_of_two"] | None = None
    accumulator_bits: Bits | None = None
    overflow: AccumulatorOverflow | None = None
    chunk: int | None = Field(default=None, ge=0)
    outer_bits: Bits | None = None
    output: GemmTable | None = None
    grad_input: GemmTable | None = None
    grad_weight: GemmTable | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> NumericsTable:
        given = [key for key, value in self._kinds().items() if value]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of native = true, profile and format, got {' and '.join(given) or 'none'}"
            )
        if given != ["format"]:
            _refuse_beside(self, given[0])
        return self

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> NumericsTable:
        if self.granularity == "channel" and self.output is not None and self.output.native:
            raise ValueError(
                "granularity = 'channel' would have no effect: it scales the weights of the output GEMM, and "
                "output is native"
            )
        if self.gradient_rounding is not None and not self.has_emulated_gradient():
            raise ValueError(
                "gradient_rounding would have no effect: it rounds the operands of grad_input and grad_weight, "
                "and both are native"
            )
        return self

    def has_emulated_gradient(self) -> bool:
        """Whether one of the two backward GEMMs quantises the output's gradient."""
        backward = (self.grad_input, self.grad_weight)
        return not self.native and any(gemm is None or not gemm.native for gemm in backward)

    def _kinds(self) -> dict[str, object]:
        return {"native": self.native, "profile": self.profile, "format": self.format}


#: Keys of a table that are not numerics, and so may stand beside anything.
_BESIDE = {"name", "rules", "path", "clip_gradient_norm"}


def _refuse_beside(table: Strict, key: str) -> None:
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


def op_spec(table: NumericsTable) -> OpSpec | None:
    """The numerics that a table describes; None for native float32.

    Raises:
        ProfileError: A profile that does not exist or is not valid.
    """
    if table.native:
        return None
    if table.profile is not None:
        return hw_models.load(table.profile).op_spec()
    return OpSpec(
        output=gemm_spec(table, "output"),
        grad_input=gemm_spec(table, "grad_input"),
        grad_weight=gemm_spec(table, "grad_weight"),
    )


def gemm_spec(table: NumericsTable, role: str) -> GemmSpec | None:
    """The numerics of one of the `GEMM_ROLES` in a table that gives a format; None for native float32."""
    own: GemmTable = getattr(table, role) or GemmTable()
    if own.native:
        return None
    scale: ScaleRule = PowerOfTwoScale() if table.scale == "power_of_two" else AbsMaxScale()
    # Only the forward GEMM sums over everything but a weight's first axis.
    by_channel = table.granularity == "channel" and role == "output"
    granularity: Granularity = PerAxis(0) if by_channel else PerTensor()
    gradient = table.gradient_rounding if role != "output" else None
    rounding = own.lhs_rounding or gradient or RoundingTable(mode="nearest_even")
    format_name = table.format or ""
    lhs = Quantizer(parse_format(own.lhs or format_name), scale=scale, rounding=rounding.build())
    rhs = Quantizer(parse_format(own.rhs or format_name), scale=scale, granularity=granularity)
    return GemmSpec(lhs, rhs, _mac(table, own))


def layer_mac(table: NumericsTable) -> MacUnit:
    """The MAC unit of the GEMMs that have no table of their own."""
    return _mac(table, GemmTable())


def _mac(table: NumericsTable, own: GemmTable) -> MacUnit:
    keys = ("accumulator_bits", "overflow", "chunk", "outer_bits")
    chosen = {key: getattr(own if getattr(own, key) is not None else table, key) for key in keys}
    return MacUnit(**{key: value for key, value in chosen.items() if value is not None})
