"""The MAC unit as a table: an integer unit, or with the key `accumulator` a floating-point one.

mac = { accumulator_bits = 16, overflow = "saturate", chunk = 32, products = "drum:4" }
mac = { accumulator = "fp16", chunk = 64, rounding = { mode = "stochastic", random_bits = 13 } }
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import AccumulatorOverflow, MacUnit, OverflowAt, SummationOrder
from lowbit_sim.arith.multipliers import drum_multiplier, kulkarni_multiplier, mitchell_multiplier
from lowbit_sim.arith.products import ProductTable, load_product_table
from lowbit_sim.config.tables import RoundingTable, Strict, checked, float_name, table_of
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.suggest import unknown

Bits = Annotated[int, Field(ge=8, le=64)]
FloatName = Annotated[str, AfterValidator(float_name)]

#: The published multipliers by the names that tables use.
MULTIPLIERS = {"mitchell": mitchell_multiplier, "drum": drum_multiplier, "kulkarni": kulkarni_multiplier}
PRODUCT_FILES = (".npy", ".csv")

#: The keys of a layer's or a GEMM's table that describe an integer unit without a table of its own.
SHORT_KEYS = ("accumulator_bits", "overflow", "chunk", "outer_bits")


class MacTable(Strict):
    """An integer MAC unit; the keys are those of `MacUnit`."""

    accumulator_bits: Bits | None = Field(
        default=None,
        description="width of the (inner) accumulator; left out, what the formats need by default, 32 or 48",
        examples=[16],
    )
    overflow: AccumulatorOverflow = Field(default="wrap", description="what an accumulator does at its limit")
    chunk: int = Field(
        default=0,
        ge=0,
        description="products summed before the sum moves to the outer accumulator; 0 for all",
    )
    outer_bits: Bits | None = Field(
        default=None, description="width of the accumulator of the chunks' sums; left out, as the inner one"
    )
    overflow_at: OverflowAt = Field(default="addition", description="where the overflow rule acts")
    truncated_bits: int = Field(
        default=0, description="low bits that a chunk's sum loses when it moves to the outer accumulator"
    )
    truncation: str | None = Field(default=None, description='rounding mode of that loss; left out, "down"')
    order: SummationOrder = Field(default="sequential", description="order of summation inside a chunk")
    products: str | None = Field(
        default=None,
        description='an approximate multiplier, "mitchell", "drum:4" (leading bits) or "kulkarni", or a .npy or '
        ".csv file of products, its path relative to the file that names it; left out, products are exact",
    )
    product_bits: int | None = Field(
        default=None, description="width of a named multiplier's codes; left out, 8"
    )
    product_signed: bool | None = Field(
        default=None, description="whether the multiplier's codes are two's complement; left out, true"
    )

    @model_validator(mode="after")
    def _is_valid(self) -> MacTable:
        if self.products is None and (self.product_bits is not None or self.product_signed is not None):
            raise ValueError("product_bits and product_signed would have no effect without products")
        if is_file(self.products) and self.product_bits is not None:
            raise ValueError(
                "product_bits would have no effect: the size of the products' file gives the width"
            )
        # One that is left out depends on the operands; what can't be with the narrower default can't be at all.
        checked(lambda: self.build(32))
        return self

    def build(self, accumulator_bits: int) -> MacUnit:
        """The unit.

        Args:
            accumulator_bits: The accumulator's width if the table gives none.

        Raises:
            ValueError: As `MacUnit`, or a multiplier that does not exist.
        """
        return MacUnit(
            accumulator_bits=self.accumulator_bits or accumulator_bits,
            overflow=self.overflow,
            chunk=self.chunk,
            outer_bits=self.outer_bits,
            overflow_at=self.overflow_at,
            truncated_bits=self.truncated_bits,
            truncation=self.truncation or "down",
            order=self.order,
            products=self._products(),
        )

    def _products(self) -> ProductTable | None:
        if self.products is None:
            return None
        signed = True if self.product_signed is None else self.product_signed
        if is_file(self.products):
            try:
                return load_product_table(self.products, signed=signed)
            except OSError as error:
                raise ValueError(f"can't read the products {self.products}: {error.strerror}") from None
        name, colon, parameter = self.products.partition(":")
        if name not in MULTIPLIERS:
            files = " or ".join(PRODUCT_FILES)
            raise ValueError(f"{unknown('multiplier', name, MULTIPLIERS)}; or a {files} file of products")
        bits = 8 if self.product_bits is None else self.product_bits
        if not colon:
            return MULTIPLIERS[name](bits, signed=signed)
        if name != "drum" or not parameter.isdecimal():
            raise ValueError(f"only drum takes a parameter, as in 'drum:4', got products = {self.products!r}")
        return drum_multiplier(bits, int(parameter), signed=signed)

    def written(self, unit: MacUnit) -> MacTable:
        """The table with every default that has an effect written out.

        Args:
            unit: What it builds.
        """
        filled: dict[str, Any] = {
            "accumulator_bits": unit.accumulator_bits,
            "outer_bits": unit.result_bits if unit.chunk else unit.outer_bits,
        }
        if unit.truncated_bits:
            filled["truncation"] = unit.truncation
        if unit.products is not None:
            filled["product_signed"] = unit.products.signed
            filled["product_bits"] = None if is_file(self.products) else unit.products.bits
        return self.model_copy(update=filled)


class FloatMacTable(Strict):
    """A floating-point MAC unit; the keys are those of `FloatMacUnit`, with formats by name."""

    accumulator: FloatName = Field(default="fp32", description="format of the accumulator", examples=["fp16"])
    rounding: RoundingTable | None = Field(
        default=None, description="rounding of every addition; left out, to nearest even"
    )
    chunk: int = Field(
        default=0,
        ge=0,
        description="products summed before the sum moves to the outer accumulator; 0 for all",
    )
    outer: FloatName | None = Field(
        default=None, description="format of the accumulator of the chunks' sums; left out, as the inner one"
    )
    order: SummationOrder = Field(default="sequential", description="order of summation inside a chunk")
    product: FloatName | None = Field(
        default=None, description="format that products are rounded to; left out, they stay exact"
    )
    product_rounding: RoundingTable | None = Field(
        default=None, description="rounding of products; left out, to nearest even"
    )
    kahan: bool = Field(default=False, description="compensated summation")

    @model_validator(mode="after")
    def _is_valid(self) -> FloatMacTable:
        checked(self.build)
        return self

    def build(self) -> FloatMacUnit:
        """The unit.

        Raises:
            ValueError: As `FloatMacUnit`.
        """
        rounding = (self.rounding or RoundingTable(mode="nearest_even")).build("infinity")
        product_rounding = self.product_rounding and self.product_rounding.build(rounding.overflow)
        return FloatMacUnit(
            accumulator=_float(self.accumulator),
            rounding=rounding,
            chunk=self.chunk,
            outer=self.outer and _float(self.outer),  # type: ignore[arg-type]
            order=self.order,
            product=self.product and _float(self.product),  # type: ignore[arg-type]
            product_rounding=product_rounding,
            kahan=self.kahan,
        )

    def written(self, unit: FloatMacUnit) -> FloatMacTable:
        """The table with every default that has an effect written out.

        Args:
            unit: What it builds.
        """
        filled: dict[str, Any] = {"rounding": RoundingTable.of(unit.rounding)}
        if unit.chunk and self.outer is None:
            filled["outer"] = self.accumulator
        if self.product is not None:
            filled["product_rounding"] = RoundingTable.of(unit.rounding_of_products)
        return self.model_copy(update=filled)


def _float(name: str) -> FloatFormat:
    fmt = parse_format(name)
    assert isinstance(fmt, FloatFormat)
    return fmt


def is_file(products: str | None) -> bool:
    """Whether products are those of a file, not of a published multiplier."""
    return products is not None and products.endswith(PRODUCT_FILES)


def with_product_files(value: Any, folder: Path) -> Any:
    """What a TOML file holds, with the paths of its files of products counted from a folder."""
    if isinstance(value, list | tuple):
        return [with_product_files(inner, folder) for inner in value]
    if not isinstance(value, dict):
        return value
    inner = {key: with_product_files(v, folder) for key, v in value.items()}
    products = inner.get("products")
    if isinstance(products, str) and is_file(products):
        inner["products"] = str(folder / products)
    return inner


def product_files(value: Any) -> Iterator[str]:
    """The files of products that the tables of a TOML file name."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from product_files(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "products" and isinstance(inner, str) and is_file(inner):
                yield inner
            yield from product_files(inner)


def _mac(value: Any) -> Any:
    if isinstance(value, dict):
        return table_of(FloatMacTable if "accumulator" in value else MacTable, value)
    if value is not None and not isinstance(value, MacTable | FloatMacTable):
        raise ValueError(f"expected a table, as in {{ accumulator_bits = 16 }}, got {value!r}")
    return value


MacValue = Annotated[MacTable | FloatMacTable, BeforeValidator(_mac)]
