"""Number formats and MAC units as the file of `lowbit-sim vectors` describes them: by their fields.

A reader needs no list of names: how many bits a code has, how it is read and rounded follows from these keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Float32 = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$", description="bit pattern of a float32")]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class IntegerNumber(Strict):
    """value = code 2^-fraction_bits, the code two's complement or, if not signed, plain binary."""

    kind: Literal["integer"] = "integer"
    name: str
    bits: PositiveInt
    signed: bool
    fraction_bits: int
    low: int = Field(description="smallest code")
    high: int = Field(description="largest code")


class FloatNumber(Strict):
    """Sign, exponent e, mantissa m: (1 + m 2^-M) 2^(e - bias), or with e = 0 m 2^(1 - bias - M), M = mantissa_bits.

    With infinity and NaN the all-ones exponent is theirs, as in IEEE 754; with one of them alone, the all-ones code.
    """

    kind: Literal["float"] = "float"
    name: str
    bits: PositiveInt
    exponent_bits: PositiveInt
    mantissa_bits: NonNegativeInt
    bias: int
    has_infinity: bool
    has_nan: bool
    has_subnormals: bool = Field(description="if not, all codes with e = 0 are zero")


class LogNumber(Strict):
    """Sign and exponent field f: 0 for f = 0, else 2^odd radix^(f - bias)."""

    kind: Literal["log"] = "log"
    name: str
    bits: PositiveInt
    exponent_bits: PositiveInt
    radix: PositiveInt
    bias: int
    odd: bool


class PositNumber(Strict):
    """A posit (Posit Standard 2022)."""

    kind: Literal["posit"] = "posit"
    name: str
    bits: PositiveInt
    exponent_bits: NonNegativeInt


class CodebookNumber(Strict):
    """A code is an index into the values."""

    kind: Literal["codebook"] = "codebook"
    name: str
    bits: PositiveInt
    values: list[Float32]


class ExponentNumber(Strict):
    """value = 2^(code - bias); all ones is NaN."""

    kind: Literal["exponent"] = "exponent"
    name: str
    bits: PositiveInt
    bias: int


Number = Annotated[
    IntegerNumber | FloatNumber | LogNumber | PositNumber | CodebookNumber | ExponentNumber,
    Field(discriminator="kind"),
]


class Rounding(Strict):
    """How an exact number becomes one of a format."""

    mode: str = Field(description="nearest_even, nearest_away, toward_zero, down, up or stochastic")
    overflow: str = Field(description="saturate, wrap or infinity")
    random_bits: NonNegativeInt = Field(description="width of each random integer; 0 unless stochastic")


class IntegerMac(Strict):
    """A multiply-accumulate unit that adds integers."""

    kind: Literal["integer"] = "integer"
    accumulator_bits: PositiveInt
    overflow: str = Field(description="wrap, saturate or saturate_symmetric")
    overflow_at: str = Field(description="addition, chunk or outer: where the rule acts")
    chunk: NonNegativeInt = Field(description="products in a chunk; 0 for all")
    outer_bits: PositiveInt = Field(description="width of the accumulator of the chunks' sums")
    truncated_bits: NonNegativeInt = Field(description="low bits that a chunk's sum loses")
    truncation: str = Field(description="rounding mode of that loss")
    order: str = Field(description="sequential or tree, inside a chunk")
    products: Hex | None = Field(
        description="SHA-256 of a table in `product_tables`; null for exact products"
    )


class FloatMac(Strict):
    """A multiply-accumulate unit that adds in floating point, rounding after every addition."""

    kind: Literal["float"] = "float"
    accumulator: FloatNumber
    rounding: Rounding
    chunk: NonNegativeInt = Field(description="products in a chunk; 0 for all")
    outer: FloatNumber | None = Field(
        description="accumulator of the chunks' sums; null if the inner one is the result"
    )
    order: str = Field(description="sequential or tree, inside a chunk")
    product: FloatNumber | None = Field(description="what products are rounded to; null for exact ones")
    product_rounding: Rounding | None
    kahan: bool = Field(description="compensated summation")


Mac = Annotated[IntegerMac | FloatMac, Field(discriminator="kind")]


class ProductTable(Strict):
    """The products of every two codes, in place of exact ones."""

    name: str
    bits: PositiveInt = Field(description="width of both codes")
    signed: bool
    product_bits: PositiveInt
    products: list[Hex] = Field(
        description="two's complement, product_bits wide, at (left code 2^bits + right code), codes as bit patterns"
    )
