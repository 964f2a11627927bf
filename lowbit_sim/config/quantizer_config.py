"""How an operand is quantised, as a table: format, scale rule, granularity and rounding.

"int8"                                                                  a format, all else as the layer has it
{ format = "int8", scale = { rule = "percentile", percentile = 99.9 },  spelled out
  granularity = { group = 16, axis = 0 }, rounding = { mode = "stochastic", random_bits = 8 } }
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.tables import Choice, RoundingTable, Strict, checked, format_name, table_of
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat, FixedFormat, FloatFormat, Format, PositFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant import scaling
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerBlock, PerGroup, PerSample, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import ScaleRule

FormatName = Annotated[str, AfterValidator(format_name)]

#: Formats with a range of their own, that numbers can be cast to as they are.
CAST_FORMATS = (FloatFormat, FixedFormat, PositFormat)

#: The scale rules by the names that tables use.
SCALE_RULES: dict[str, Callable[..., Any]] = {
    "absmax": scaling.AbsMaxScale,
    "power_of_two": scaling.PowerOfTwoScale,
    "minmax": scaling.MinMaxScale,
    "fixed": scaling.FixedScale,
    "ema": scaling.EmaScale,
    "percentile": scaling.PercentileScale,
    "sawb": scaling.SawbScale,
    "mse": scaling.MseScale,
    "direction_sensitive": scaling.DirectionSensitiveScale,
    "learned": scaling.LearnedScale,
}
SCALES = Choice("scale rule", "rule", SCALE_RULES)

ScaleValue = Annotated[str | SerializeAsAny[Strict], BeforeValidator(SCALES), SCALES]

#: The granularities that need no parameter; of one operand, "channel" is its first axis.
GRANULARITIES: dict[str, Granularity] = {
    "tensor": PerTensor(),
    "channel": PerAxis(0),
    "sample": PerSample(),
}


class GranularityTable(Strict):
    """Which elements share a scale: `axis`, `group` with `axis`, or `block`."""

    axis: int | None = Field(default=None, description="a scale for each index along this axis of the tensor")
    group: int | None = Field(default=None, description="a scale for each run of so many indices along axis")
    block: int | None = Field(
        default=None, description="a scale for each run of so many elements along the reduction"
    )

    @model_validator(mode="after")
    def _is_valid(self) -> GranularityTable:
        given = {key for key in ("axis", "group", "block") if getattr(self, key) is not None}
        if given not in ({"axis"}, {"group", "axis"}, {"block"}):
            raise ValueError(
                f"give axis, group and axis, or block, got {' and '.join(sorted(given)) or 'none'}"
            )
        checked(self.build)
        return self

    def build(self) -> Granularity:
        """The granularity."""
        if self.block is not None:
            return PerBlock(self.block)
        assert self.axis is not None
        return PerAxis(self.axis) if self.group is None else PerGroup(self.group, self.axis)


def _granularity(value: Any) -> Any:
    if isinstance(value, dict):
        return table_of(GranularityTable, value)
    if isinstance(value, str) and value not in GRANULARITIES:
        tables = "{ axis = ... }, { group = ..., axis = ... } and { block = ... }"
        raise ValueError(f"{unknown('granularity', value, GRANULARITIES)}; and the tables {tables}")
    return value


GranularityValue = Annotated[str | GranularityTable, BeforeValidator(_granularity)]


def granularity_of(value: str | GranularityTable) -> Granularity:
    """The granularity of one operand."""
    return GRANULARITIES[value] if isinstance(value, str) else value.build()


def granularity_value(granularity: Granularity) -> str | GranularityTable:
    """How a table writes a granularity."""
    for name, known in GRANULARITIES.items():
        if known == granularity:
            return name
    match granularity:
        case PerAxis(axis):
            return GranularityTable(axis=axis)
        case PerGroup(size, axis):
            return GranularityTable(group=size, axis=axis)
        case PerBlock(size):
            return GranularityTable(block=size)
    raise TypeError(f"{granularity!r} is not a granularity")


class QuantizerTable(Strict):
    """An operand; what is left out is taken from the layer's table, or else is the format's default."""

    format: FormatName = Field(
        description="name of the format; a block format brings its own granularity and scale",
        examples=["int8"],
    )
    scale: ScaleValue | None = Field(default=None, description="scale rule")
    granularity: GranularityValue | None = Field(default=None, description="which elements share a scale")
    rounding: RoundingTable | None = Field(default=None, description="rounding to codes")
    nan: int | None = Field(
        default=None, description="the code that a NaN becomes; left out, NaN is an error"
    )

    @model_validator(mode="after")
    def _is_valid(self) -> QuantizerTable:
        given = [key for key in ("scale", "granularity") if getattr(self, key) is not None]
        if given and isinstance(parse_format(self.format), BlockFormat):
            raise ValueError(f"{' and '.join(given)} would have no effect: {self.format} brings its own")
        checked(lambda: build_quantizer(self))
        return self


def _operand(value: Any) -> Any:
    if isinstance(value, dict):
        return table_of(QuantizerTable, value)
    if isinstance(value, str):
        return format_name(value)
    if value is not None and not isinstance(value, QuantizerTable):
        raise ValueError(f"expected a format's name or a table with the key 'format', got {value!r}")
    return value


OperandValue = Annotated[str | QuantizerTable, BeforeValidator(_operand)]


def default_scale(fmt: Format) -> ScaleRule:
    """The scale rule that goes without saying: absmax, but none for formats with float32's range of exponents."""
    return OpSpec.uniform(fmt).output.lhs.scale  # type: ignore[union-attr]


def build_quantizer(
    value: str | QuantizerTable,
    *,
    scale: ScaleRule | None = None,
    granularity: Granularity = PerTensor(),
    rounding: Rounding = Rounding(),
    cast: bool = False,
) -> Quantizer:
    """The quantiser of an operand.

    Args:
        value: A format's name or a table.
        scale: Scale rule where the table gives none; by default the format's.
        granularity: Granularity where the table gives none.
        rounding: Rounding where the table gives none.
        cast: Whether the default is to take numbers as they are, in formats that have a range of their own.

    Raises:
        ValueError, TypeError: As `Quantizer`.
    """
    table = value if isinstance(value, QuantizerTable) else QuantizerTable(format=value)
    fmt = parse_format(table.format)
    nan = "raise" if table.nan is None else table.nan
    if table.rounding is not None:
        rounding = table.rounding.build()
    if isinstance(fmt, BlockFormat):  # which brings its own
        scale, granularity = scaling.AbsMaxScale(), PerTensor()
    rule = scale or (cast_scale(fmt) if cast else default_scale(fmt))
    return Quantizer(
        fmt,
        scale=rule if table.scale is None else SCALES.build(table.scale),
        granularity=granularity if table.granularity is None else granularity_of(table.granularity),
        rounding=rounding,
        nan=nan,
    )


def cast_scale(fmt: Format) -> ScaleRule:
    """1 for formats that numbers are cast to as they are (floats, fixed point, posits), else absmax."""
    return scaling.FixedScale(1.0) if isinstance(fmt, CAST_FORMATS) else scaling.AbsMaxScale()


def full_table(quantizer: Quantizer, name: str) -> QuantizerTable:
    """The table of a quantiser with every default written out.

    Args:
        quantizer: The quantiser.
        name: Name of its format.
    """
    own = isinstance(quantizer.format, BlockFormat)
    return QuantizerTable(
        format=name,
        scale=None if own else SCALES.value_of(quantizer.scale),
        granularity=None if own else granularity_value(quantizer.granularity),
        rounding=RoundingTable.of(quantizer.rounding),
        nan=None if quantizer.nan == "raise" else int(quantizer.nan),
    )
