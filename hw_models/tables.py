"""The tables of a profile that describe the machine's parts: clock, array, vector unit, memories, energy.

Each table is one class. Units are in the names of the keys. The schema is strict: no key is ignored and no
type is converted. Every table says where its numbers come from: `source` for the table, `sources.KEY` for a
number from elsewhere. The source of a number that nobody published for the machine, or that was not checked
against its publication, begins with "assumption" and gives the reason.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    model_validator,
)
from pydantic.fields import FieldInfo

from hw_models.cycles import Dataflow
from lowbit_sim.numerics.suggest import unknown

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Strict(BaseModel):
    """A table without optional spelling: unknown keys, converted types, NaN and infinity are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Sourced(Strict):
    """A table of numbers, which says where they come from."""

    source: Text = Field(
        description='where the numbers of this table come from: a citation, or "assumption" and why',
        examples=["assumption: example figures, replace them with your own and cite them"],
    )
    sources: dict[str, Text] = Field(
        default={}, description="the source of single keys of this table, where it is another one"
    )

    @model_validator(mode="after")
    def _sources_name_keys(self) -> Sourced:
        known = set(type(self).model_fields) - {"source", "sources"}
        for key in self.sources:
            if key not in known:
                raise ValueError(unknown("key under sources", key, known))
        return self


def nested_table(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the table, or of the repeated tables, that a key holds; None for a plain value."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


class Machine(Sourced):
    """What the machine is."""

    name: Text = Field(
        pattern="^[a-z][a-z0-9_]*$", description="name of the machine", examples=["my_machine"]
    )
    description: Text = Field(description="one line about it", examples=["An 8-bit systolic array"])
    node_nm: PositiveFloat = Field(description="process node in nm", examples=[22.0])
    voltage_v: PositiveFloat = Field(description="supply voltage in V", examples=[0.8])


class Clock(Sourced):
    """The clock of the whole machine."""

    frequency_hz: PositiveInt = Field(description="clock frequency in Hz", examples=[1_000_000_000])


class Mode(Sourced):
    """An operand width that a processing element multiplies.

    A float mode carries the energy of its own operations; an integer mode's follows from [energy] by width.
    """

    operand_bits: int = Field(ge=2, le=64, description="width of both operands in bits", examples=[8])
    kind: Literal["integer", "float"] = Field(default="integer", description="what is multiplied")
    macs_per_pe_per_cycle: PositiveInt = Field(
        description="products that a processing element adds up in a cycle, taken along the reduction",
        examples=[1],
    )
    multiply_pj: NonNegativeFloat | None = Field(
        default=None, description="pJ of a multiply; float modes only"
    )
    add_pj: NonNegativeFloat | None = Field(default=None, description="pJ of an addition; float modes only")

    @model_validator(mode="after")
    def _own_energy_if_float(self) -> Mode:
        for key in ("multiply_pj", "add_pj"):
            if (getattr(self, key) is not None) != (self.kind == "float"):
                raise ValueError(f"{key} is given for kind = 'float' and only there (kind is {self.kind!r})")
        return self


def _as_tuple(modes: object) -> object:
    # TOML has lists only, and a strict tuple refuses them.
    if not isinstance(modes, list | tuple):
        raise ValueError("each mode is a table of its own, under [[array.modes]] with two brackets")
    return tuple(modes)


class Array(Sourced):
    """The systolic arrays."""

    rows: PositiveInt = Field(description="rows of processing elements of one array", examples=[16])
    columns: PositiveInt = Field(description="columns of processing elements of one array", examples=[16])
    arrays: PositiveInt = Field(
        description="equal arrays, among which a GEMM's folds are dealt", examples=[1]
    )
    dataflow: Dataflow = Field(
        description='what stays in the array: "ws" weights, "os" outputs, "is" inputs', examples=["ws"]
    )
    modes: Annotated[tuple[Mode, ...], BeforeValidator(_as_tuple)] = Field(
        description="the operand widths, one [[array.modes]] table each"
    )

    @model_validator(mode="after")
    def _modes_differ(self) -> Array:
        if not self.modes:
            raise ValueError("modes is empty: an array multiplies at least one operand width")
        seen = [(m.kind, m.operand_bits) for m in self.modes]
        for mode in seen:
            if seen.count(mode) > 1:
                raise ValueError(f"modes has {mode[0]} operand_bits = {mode[1]} more than once")
        return self

    def widths(self, kind: str = "integer") -> list[int]:
        """The operand widths of a kind in bits, ascending."""
        return sorted(m.operand_bits for m in self.modes if m.kind == kind)

    def macs_per_cycle(self, mode: Mode) -> int:
        """Peak multiply-accumulates of all arrays in a cycle."""
        return self.rows * self.columns * self.arrays * mode.macs_per_pe_per_cycle


class Vector(Sourced):
    """The unit that does everything but GEMMs, and GEMMs of floats that the array has no mode for."""

    lanes: PositiveInt = Field(description="elements worked on at once", examples=[16])
    elements_per_lane_per_cycle: PositiveInt = Field(
        description="elements a lane finishes a cycle", examples=[1]
    )
    random_bits_per_cycle: NonNegativeInt = Field(
        description="random bits drawn in a cycle by a unit of their own; 0 without one", examples=[128]
    )
    elements_per_random_word: PositiveInt = Field(
        description="without such a unit: elements of vector work that computing 32 random bits takes",
        examples=[6],
    )

    @property
    def elements_per_cycle(self) -> int:
        """Peak elements of all lanes in a cycle; an element of a GEMM is a multiply-accumulate."""
        return self.lanes * self.elements_per_lane_per_cycle

    def random_bits_as_elements(self, random_bits: int) -> int:
        """The vector work that random bits take on a machine without a unit for them; 0 with one."""
        return 0 if self.random_bits_per_cycle else -(-random_bits // 32) * self.elements_per_random_word


class OnChip(Sourced):
    """An on-chip memory. Its traffic is counted over all banks and ports."""

    capacity_bytes: PositiveInt = Field(description="capacity in bytes", examples=[131072])
    bandwidth_bytes_per_cycle: PositiveInt = Field(
        description="bytes read and written in a cycle, all ports together", examples=[128]
    )
    read_pj_per_bit: NonNegativeFloat = Field(description="pJ to read a bit", examples=[0.1])
    write_pj_per_bit: NonNegativeFloat = Field(description="pJ to write a bit", examples=[0.1])


class OffChip(Sourced):
    """The memory outside."""

    bandwidth_bytes_per_second: PositiveInt = Field(
        description="bytes read and written in a second", examples=[16_000_000_000]
    )
    read_pj_per_bit: NonNegativeFloat = Field(description="pJ to read a bit", examples=[8.0])
    write_pj_per_bit: NonNegativeFloat = Field(description="pJ to write a bit", examples=[8.0])


class Memory(Strict):
    """The memories."""

    sram: OnChip = Field(description="the on-chip memory of operands and of the vector unit")
    accumulator: OnChip = Field(description="the on-chip memory of partial sums and results")
    dram: OffChip = Field(description="the memory outside")


class Energy(Sourced):
    """Energy of logic, at the node and voltage at which it was published.

    `energy.technology_scale` carries it to the machine's node. The memories' figures are used as they are.
    """

    node_nm: PositiveFloat = Field(description="node of these figures in nm", examples=[45.0])
    voltage_v: PositiveFloat = Field(description="voltage of these figures in V", examples=[0.9])
    multiply_pj: NonNegativeFloat = Field(
        description="pJ of an integer multiply of multiply_bits", examples=[0.2]
    )
    multiply_bits: PositiveInt = Field(description="the width at which multiply_pj holds", examples=[8])
    add_pj: NonNegativeFloat = Field(description="pJ of an integer addition of add_bits", examples=[0.1])
    add_bits: PositiveInt = Field(description="the width at which add_pj holds", examples=[32])
    vector_element_pj: NonNegativeFloat = Field(
        description="pJ of an element of vector work: one fp32 multiply and one fp32 add", examples=[4.6]
    )
    random_bit_pj: NonNegativeFloat = Field(description="pJ of a random bit", examples=[0.004])
    static_power_w: NonNegativeFloat = Field(
        description="power in W drawn all the time; 0 to price the switching energy alone", examples=[0.0]
    )
