"""The numerics part of a study file: one table that says how a layer computes, and its `OpSpec`.

native = true                                      float32
profile = "NAME"                                   the arithmetic of a machine
format = "int8", accumulator_bits = 16, ...        spelled out, for the three GEMMs alike,
grad_weight = { lhs = "int4", chunk = 32, ... }    with overrides for one of them

What neither a GEMM's table nor the layer's gives is `OpSpec.uniform`'s default for the operand's format.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

import hw_models
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import AccumulatorOverflow, MacUnit
from lowbit_sim.arith.spec import MAX_SAMPLES, GemmSpec, OpSpec
from lowbit_sim.nn.learned import check_learned
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.ops.contraction import TENSORS, Side
from lowbit_sim.ops.linear import MatrixContraction
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerBlock, PerGroup, PerSample, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.transforms import Transform
from lowbit_sim.study.gradient_config import (
    GRADIENTS,
    TRANSFORMS,
    GradientOperands,
    GradientValue,
    TransformValue,
)
from lowbit_sim.study.mac_config import (
    SHORT_KEYS,
    Bits,
    FloatMacTable,
    MacTable,
    MacValue,
    check_products,
)
from lowbit_sim.study.quantizer_config import (
    SCALES,
    FormatName,
    GranularityTable,
    GranularityValue,
    OperandValue,
    QuantizerTable,
    ScaleValue,
    build_quantizer,
    granularity_of,
)
from lowbit_sim.study.tables import RoundingTable as RoundingTable
from lowbit_sim.study.tables import Strict as Strict
from lowbit_sim.study.tables import checked

#: The three GEMMs of a layer, as the tables name them.
GEMM_ROLES = ("output", "grad_input", "grad_weight")
BACKWARD = ("grad_input", "grad_weight")

Samples = Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


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
        _refuse_beside(self, "native")
        _refuse_two_macs(self)
        if isinstance(self.lhs, QuantizerTable) and self.lhs.rounding and self.lhs_rounding:
            raise ValueError("lhs has a rounding already: leave it or lhs_rounding out")
        return self


class NumericsTable(Strict):
    """How a layer computes: exactly one of `native`, `profile` and `format`; the rest goes with `format`.

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

    @model_validator(mode="after")
    def _one_kind(self) -> NumericsTable:
        kinds = self._kinds()
        given = [key for key, value in kinds.items() if value]
        if len(given) != 1:
            *others, last = ["native = true", *(key for key in kinds if key != "native")]
            raise ValueError(
                f"give exactly one of {', '.join(others)} and {last}, got {' and '.join(given) or 'none'}"
            )
        if given != ["format"]:
            _refuse_beside(self, given[0])
        return self

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> NumericsTable:
        _refuse_two_macs(self)
        if self.granularity == "channel" and self.output is not None and self.output.native:
            raise ValueError(
                "granularity = 'channel' would have no effect: it scales the weights of the output GEMM, and "
                "output is native"
            )
        for key in ("gradient_rounding", "gradient", "samples"):
            if getattr(self, key) is not None and not self.has_emulated_gradient():
                what = "rounds the operands" if key == "gradient_rounding" else "is for the left operands"
                raise ValueError(
                    f"{key} would have no effect: it {what} of grad_input and grad_weight, and both are native"
                )
        if self.gradient is not None:
            _refuse_with_gradient(self)
        return self

    @model_validator(mode="after")
    def _can_be(self) -> NumericsTable:
        if self.format is not None:
            checked(lambda: _checked_spec(self))
        return self

    def has_emulated_gradient(self) -> bool:
        """Whether one of the two backward GEMMs quantises the output's gradient."""
        backward = (self.grad_input, self.grad_weight)
        return not self.native and any(gemm is None or not gemm.native for gemm in backward)

    def _kinds(self) -> dict[str, object]:
        return {"native": self.native, "profile": self.profile, "format": self.format}


#: Keys of a table that are not numerics, and so may stand beside anything.
_BESIDE = {"name", "rules", "path", "clip_gradient_norm", "update"}


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


def _short_keys(table: GemmTable | NumericsTable) -> list[str]:
    return [key for key in SHORT_KEYS if getattr(table, key) is not None]


def _refuse_two_macs(table: GemmTable | NumericsTable) -> None:
    given = _short_keys(table)
    if table.mac is not None and given:
        raise ValueError(f"{', '.join(given)} would have no effect beside mac: write them into mac's table")


def _refuse_with_gradient(table: NumericsTable) -> None:
    """Refuse what a named gradient quantiser decides already."""
    for key in ("gradient_rounding", "samples"):
        if getattr(table, key) is not None:
            raise ValueError(f"{key} would have no effect beside gradient: write it into gradient's table")
    if table.transform is not None and _gradient(table).transform is not None:
        raise ValueError("gradient brings a transform of its own: leave transform out")
    readers = [role for role in BACKWARD if _reads_gradient(table, role, _own(table, role))]
    if not readers:
        raise ValueError("gradient would have no effect: grad_input and grad_weight have an lhs of their own")
    for role in readers:
        for key in ("lhs_rounding", "samples"):
            if getattr(_own(table, role), key) is not None:
                raise ValueError(f"{role}: {key} would have no effect beside gradient, which gives {role} its lhs")


def op_spec(table: NumericsTable) -> OpSpec | None:
    """The numerics that a table describes; None for native float32.

    Raises:
        ProfileError: A profile that does not exist or is not valid.
    """
    if table.native:
        return None
    if table.profile is not None:
        return hw_models.load(table.profile).op_spec()
    return OpSpec(**{role: gemm_spec(table, role) for role in GEMM_ROLES})


def _checked_spec(table: NumericsTable) -> None:
    """Build the numerics of a table that gives a format, and refuse what no layer could run.

    Raises:
        ValueError, TypeError: What can't be, and in which GEMM.
    """
    for role in GEMM_ROLES:
        try:
            spec = gemm_spec(table, role)
            if spec is not None:
                check_products(spec)
                _check_sums(spec, role)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{role}: {error}") from error
    spec = op_spec(table)
    assert spec is not None
    check_learned(spec, "*")
    _check_block_keys(table, spec)


def _check_block_keys(table: NumericsTable, spec: OpSpec) -> None:
    gemms = {role: gemm for role in GEMM_ROLES if (gemm := getattr(spec, role)) is not None}
    if table.across is not None and not any(gemm.block for gemm in gemms.values()):
        raise ValueError("across would have no effect: it adds the sums of blocks, and no operand has any")
    for role, gemm in gemms.items():
        if _own(table, role).across is not None and not gemm.block:
            raise ValueError(f"{role}: across would have no effect: no operand has blocks")
    for key in ("scale", "granularity"):
        if getattr(table, key) is not None and not takes_layer_key(table, key):
            raise ValueError(f"{key} would have no effect: {table.format} brings its own")


def takes_layer_key(table: NumericsTable, key: str) -> bool:
    """Whether the layer's scale or granularity can mean something: its format is not a block format, or not alone."""
    operands = [
        value for role in GEMM_ROLES for side in ("lhs", "rhs") if (value := getattr(_own(table, role), side))
    ]
    names = [
        v if isinstance(v, str) else v.format
        for v in [*operands, table.format]
        if isinstance(v, str) or (v is not None and getattr(v, key) is None)
    ]
    return any(not isinstance(parse_format(name), BlockFormat) for name in names)


def _check_sums(spec: GemmSpec, role: str) -> None:
    """Refuse scales that vary along the first axis of a tensor where the GEMM sums over it.

    Raises:
        ValueError: Naming the tensor.
    """
    layout = MatrixContraction(rows=1, columns=1, inner=1)
    sides: tuple[Side, Side] = ("lhs", "rhs")
    for side in sides:
        quantizer: Quantizer = getattr(spec, side)
        granularity = quantizer.scale_granularity
        first = isinstance(granularity, PerSample) or (
            isinstance(granularity, PerAxis | PerGroup) and granularity.axis == 0
        )
        if first and spec.transform is None and 0 in layout.reduced(role, side):  # type: ignore[arg-type]
            raise ValueError(
                f"{side}, the {TENSORS[role, side]}, has a scale for each index of its first axis, but the GEMM sums "
                "over that axis, so one scale must hold along it"
            )


def _own(table: NumericsTable, role: str) -> GemmTable:
    return getattr(table, role) or GemmTable()


def gemm_spec(table: NumericsTable, role: str) -> GemmSpec | None:
    """The numerics of one of the `GEMM_ROLES` in a table that gives a format; None for native float32.

    Raises:
        ValueError, TypeError: Numerics that can't be.
    """
    own = _own(table, role)
    if own.native:
        return None
    lhs, rhs = quantizer_of(table, role, "lhs", own), quantizer_of(table, role, "rhs", own)
    across = own.across or table.across or FloatMacTable()
    return GemmSpec(
        lhs,
        rhs,
        _mac(table, own, lhs, rhs),
        across=across.build(),
        transform=_transform(table, role, own),
        samples=_samples(table, role, own),
    )


def _reads_gradient(table: NumericsTable, role: str, own: GemmTable) -> bool:
    """Whether the named gradient quantiser gives a GEMM's left operand."""
    return table.gradient is not None and role in BACKWARD and not own.native and own.lhs is None


def takes_gradient(table: NumericsTable, role: str) -> bool:
    """Whether the named gradient quantiser gives a GEMM's left operand."""
    return _reads_gradient(table, role, _own(table, role))


def _gradient(table: NumericsTable) -> GradientOperands:
    assert table.gradient is not None
    return GRADIENTS.build(table.gradient)


def quantizer_of(table: NumericsTable, role: str, side: Side, own: GemmTable) -> Quantizer:
    """The quantiser of one operand.

    Args:
        table: The layer's table.
        role: The GEMM.
        side: The operand.
        own: The GEMM's table.
    """
    if side == "lhs" and _reads_gradient(table, role, own):
        return getattr(_gradient(table), role)
    rounding = Rounding()
    if side == "lhs":
        gradient = table.gradient_rounding if role in BACKWARD else None
        rounding = (own.lhs_rounding or gradient or RoundingTable(mode="nearest_even")).build()
    try:
        return build_quantizer(
            getattr(own, side) or table.format,
            scale=None if table.scale is None else SCALES.build(table.scale),
            granularity=_layer_granularity(table, role, side),
            rounding=rounding,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{side}: {error}") from error


def _layer_granularity(table: NumericsTable, role: str, side: Side) -> Granularity:
    """What the layer's granularity means for one operand.

    Raises:
        ValueError: An axis, which would be one of another tensor in each place.
    """
    value = table.granularity
    if isinstance(value, GranularityTable):
        granularity = value.build()
        if not isinstance(granularity, PerBlock):
            raise ValueError(
                "granularity names an axis, which is another one in each tensor: give it in the table of an "
                "operand, as in output = { rhs = { format = ..., granularity = { axis = 0 } } }"
            )
        return granularity
    # Only the forward GEMM sums over everything but a weight's first axis, and only these two keep the samples.
    places = {"channel": [("output", "rhs")], "sample": [("output", "lhs"), ("grad_input", "lhs")]}
    if value is not None and (role, side) in places.get(value, []):
        return granularity_of(value)
    return PerTensor()


def _transform(table: NumericsTable, role: str, own: GemmTable) -> Transform | None:
    if own.transform is not None:
        return TRANSFORMS.build(own.transform)
    if role == "grad_input" and _reads_gradient(table, role, own) and _gradient(table).transform is not None:
        return _gradient(table).transform
    return None if table.transform is None else TRANSFORMS.build(table.transform)


def _samples(table: NumericsTable, role: str, own: GemmTable) -> int:
    if own.samples is not None:
        return own.samples
    if _reads_gradient(table, role, own):
        return GRADIENTS.table(table.gradient).samples  # type: ignore[arg-type]
    return table.samples or 1 if role in BACKWARD else 1


def mac_table(table: NumericsTable, own: GemmTable) -> MacTable | FloatMacTable | None:
    """The table of a GEMM's MAC unit: its own, else the layer's; None if only the operands decide.

    Raises:
        ValueError: A GEMM's keys that have no unit to go with.
    """
    keys = _short_keys(own)
    if own.mac is not None:
        return own.mac
    if table.mac is not None:
        if keys:
            raise ValueError(f"{', '.join(keys)} can't change the layer's mac: give this GEMM a mac of its own")
        return table.mac
    chosen = {key: getattr(own if key in keys else table, key) for key in SHORT_KEYS}
    given = {key: value for key, value in chosen.items() if value is not None}
    return MacTable(**given) if given else None


def _mac(table: NumericsTable, own: GemmTable, lhs: Quantizer, rhs: Quantizer) -> MacUnit | FloatMacUnit:
    defaults = [default_mac(lhs), default_mac(rhs)]
    chosen = mac_table(table, own)
    if isinstance(chosen, FloatMacTable):
        return chosen.build()
    integer = [mac.accumulator_bits for mac in defaults if isinstance(mac, MacUnit)]
    if chosen is None and len(integer) < len(defaults):
        return FloatMacUnit()
    return (chosen or MacTable()).build(max(integer, default=32))


def default_mac(quantizer: Quantizer) -> MacUnit | FloatMacUnit:
    """The MAC unit that `OpSpec.uniform` gives a format."""
    return OpSpec.uniform(quantizer.format).output.mac  # type: ignore[union-attr]


def layer_mac(table: NumericsTable) -> MacUnit | FloatMacUnit:
    """The MAC unit of a GEMM whose operands both have the layer's format and that has no table of its own."""
    operand = build_quantizer(table.format or "")
    return _mac(table, GemmTable(), operand, operand)
