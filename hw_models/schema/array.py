"""The array of processing elements: its shape, what stays in it, and what it multiplies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from hw_models.schema.base import FigureValue, Sourced, as_tuple
from lowbit_sim.config.tables import KeyedError

#: The systolic dataflows keep weights, outputs or inputs in the array; "rs" keeps rows of a convolution
#: (Eyeriss); "spatial" broadcasts operands to adder trees and has no skew (NVDLA, Ethos-U).
Dataflow = Literal["ws", "os", "is", "rs", "spatial"]
SYSTOLIC = ("ws", "os", "is")

Kind = Literal["integer", "float", "log"]


class Mode(Sourced):
    """An operand width that a processing element multiplies.

    A float or log mode carries the energy of its own operations; an integer mode's follows from [energy] by
    width. A log mode multiplies an integer or a power of two by a power of two: a shift.
    """

    operand_bits: int = Field(ge=2, le=64, description="width of both operands in bits", examples=[8])
    kind: Kind = Field(default="integer", description='what is multiplied: "integer", "float" or "log"')
    macs_per_pe_per_cycle: PositiveInt = Field(
        description="products that a processing element adds up in a cycle, taken along the reduction: 2 for a "
        "double-pumped mode",
        examples=[1],
    )
    multiply_pj: FigureValue | None = Field(
        default=None,
        description="pJ of a multiply on the machine; float and log modes only",
        examples=[0.21],
    )
    add_pj: FigureValue | None = Field(
        default=None,
        description="pJ of an addition on the machine; float and log modes only",
        examples=[0.38],
    )

    @model_validator(mode="after")
    def _own_energy_unless_integer(self) -> Mode:
        keys = ("multiply_pj", "add_pj")
        missing = [key for key in keys if getattr(self, key) is None]
        if self.kind != "integer" and missing:
            raise ValueError(f"{' and '.join(missing)} missing: needed for kind = {self.kind!r}")
        for key in keys if self.kind == "integer" else ():
            if key not in missing:
                raise KeyedError(
                    (key,), "is for kind = 'float' and 'log'; an integer mode's energy follows from [energy]"
                )
        return self


class Array(Sourced):
    """The arrays.

    Of a spatial array `rows` lie over the reduction (input channels), `columns` over the right operand's columns
    (output channels), and `pixel_rows` x `pixel_columns` copies of that over output pixels. Groups of a convolution
    run one after another, but for those of a depthwise one on a machine with `depthwise_over_columns`.
    """

    rows: PositiveInt = Field(description="rows of processing elements of one array", examples=[16])
    columns: PositiveInt = Field(description="columns of processing elements of one array", examples=[16])
    pixel_rows: PositiveInt = Field(
        default=1, description="rows of output pixels worked on at once; spatial arrays only"
    )
    pixel_columns: PositiveInt = Field(
        default=1, description="columns of output pixels worked on at once; spatial arrays only"
    )
    depthwise_over_columns: bool = Field(
        default=False,
        description="whether the groups of a depthwise convolution lie side by side over the columns, each of which "
        "takes its own group's channel, one at a time; otherwise they run one after another, as other groups do; "
        "spatial arrays only",
    )
    steps_padded_to: PositiveInt = Field(
        default=1,
        description="steps that a unit of output stays in the array for: the steps over the kernel's positions, or "
        "over the channels at each, are padded to a multiple of it; spatial arrays only",
    )
    arrays: PositiveInt = Field(
        description="equal arrays, among which a GEMM's folds are dealt", examples=[1]
    )
    dataflow: Dataflow = Field(
        description='what stays in the array: "ws" weights, "os" outputs, "is" inputs, "rs" rows of a '
        'convolution; "spatial" for adder trees without skew',
        examples=["ws"],
    )
    loading: Literal["exposed", "hidden"] = Field(
        default="exposed",
        description='systolic arrays: "hidden" if the next fold\'s stationary operand is loaded, and the last '
        "one's results are drained, while a fold computes (double buffered)",
    )
    startup_cycles: NonNegativeInt = Field(
        default=0, description="cycles before the first fold of every GEMM: software and memory latency"
    )
    padded_loads: bool = Field(
        default=False,
        description="whether a fold at the edge fetches its stationary operand padded to the array",
    )
    skips_zeros: bool = Field(
        default=False,
        description="whether the zeros that a stride inserts into grad_input's operand take no time and energy",
    )
    modes: Annotated[tuple[Mode, ...], BeforeValidator(as_tuple)] = Field(
        description="the operand widths, one [[array.modes]] table each"
    )

    @model_validator(mode="after")
    def _modes_differ(self) -> Array:
        if not self.modes:
            raise ValueError("modes is empty: an array multiplies at least one operand width")
        seen = [(m.kind, m.operand_bits) for m in self.modes]
        for index, mode in enumerate(seen):
            if mode in seen[:index]:
                raise KeyedError(
                    ("modes", index, "operand_bits"),
                    f"{mode[0]} operand_bits = {mode[1]} is given more than once: each mode has a width of its own",
                )
        return self

    @model_validator(mode="after")
    def _keys_fit_the_dataflow(self) -> Array:
        for key in ("pixel_rows", "pixel_columns", "depthwise_over_columns", "steps_padded_to"):
            if self.dataflow != "spatial" and getattr(self, key) != Array.model_fields[key].default:
                raise KeyedError(
                    (key,), f"is for dataflow = 'spatial' (it is {self.dataflow!r}): leave it out"
                )
        if self.dataflow not in SYSTOLIC and self.loading == "hidden":
            raise KeyedError(
                ("loading",),
                f"'hidden' is for the systolic dataflows ws, os and is: {self.dataflow!r} shows no loading anyway",
            )
        return self

    def widths(self, kind: str = "integer") -> list[int]:
        """The operand widths of a kind in bits, ascending."""
        return sorted(m.operand_bits for m in self.modes if m.kind == kind)

    @property
    def elements(self) -> int:
        """Processing elements of all arrays."""
        return self.rows * self.columns * self.pixel_rows * self.pixel_columns * self.arrays

    def macs_per_cycle(self, mode: Mode) -> int:
        """Peak multiply-accumulates of all arrays in a cycle."""
        return self.elements * mode.macs_per_pe_per_cycle
