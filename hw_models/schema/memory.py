"""The memories: on-chip levels in any number and of any name, and the memory outside.

On-chip levels stand in the order from the array outwards. Levels that follow one another and hold different
operands lie side by side, in one *stage*; a level that holds what one of the stage holds already begins the next.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from hw_models.schema.base import FigureValue, Sourced, as_tuple
from lowbit_sim.config.tables import KeyedError, Strict

OperandName = Literal["lhs", "rhs", "result"]
OPERANDS: tuple[OperandName, ...] = ("lhs", "rhs", "result")

#: Stages between the array and the memory outside that the mapping search covers.
MAX_STAGES = 2


class Access(Strict):
    """The energy of one access of a memory by its width."""

    bits: PositiveInt = Field(description="width of an access in bits", examples=[64])
    read_pj: FigureValue = Field(description="pJ to read so many bits at once", examples=[6.4])
    write_pj: FigureValue = Field(description="pJ to write so many bits at once", examples=[6.4])


class OnChip(Sourced):
    """An on-chip memory. Its traffic is counted over all banks and ports."""

    capacity_bytes: PositiveInt = Field(description="capacity in bytes", examples=[131072])
    banks: PositiveInt = Field(default=1, description="banks that work at the same time")
    bandwidth_bytes_per_cycle: PositiveInt = Field(
        description="bytes read and written in a cycle, all banks and ports together", examples=[128]
    )
    holds: Annotated[tuple[OperandName, ...], BeforeValidator(as_tuple)] = Field(
        description='operands of a GEMM that it holds, of "lhs", "rhs" and "result" (partial sums too)',
        examples=[["lhs", "rhs"]],
    )
    double_buffered: bool = Field(
        default=True, description="whether one half fills while the array works on the other"
    )
    accesses: Annotated[tuple[Access, ...], BeforeValidator(as_tuple)] = Field(
        description="energy of an access by width; between two widths it is interpolated, beyond them it "
        "goes with the width"
    )

    @model_validator(mode="after")
    def _holds_something_once(self) -> OnChip:
        if not self.holds or len(set(self.holds)) < len(self.holds):
            got = ", ".join(self.holds) or "none"
            raise KeyedError(("holds",), f"names one or more of {', '.join(OPERANDS)}, each once; got {got}")
        return self

    @model_validator(mode="after")
    def _accesses_ascend(self) -> OnChip:
        if not self.accesses:
            raise KeyedError(("accesses",), "is empty: give the energy of an access of at least one width")
        for index, (a, b) in enumerate(pairwise(self.accesses), start=1):
            if a.bits >= b.bits:
                raise KeyedError(
                    ("accesses", index, "bits"),
                    f"accesses have ascending widths, got {a.bits} before {b.bits} bits",
                )
            for key in ("read_pj", "write_pj"):
                if getattr(a, key).nominal > getattr(b, key).nominal:
                    raise KeyedError(
                        ("accesses", index, key),
                        f"a wider access takes no less: {key} falls from {a.bits} to {b.bits} bits",
                    )
        return self

    @property
    def word_bits(self) -> int:
        """Bits of one bank's access."""
        return max(1, 8 * self.bandwidth_bytes_per_cycle // self.banks)


class OffChip(Sourced):
    """The memory outside."""

    bandwidth_bytes_per_second: PositiveInt = Field(
        description="bytes read and written in a second", examples=[16_000_000_000]
    )
    read_pj_per_bit: FigureValue = Field(description="pJ to read a bit", examples=[8.0])
    write_pj_per_bit: FigureValue = Field(description="pJ to write a bit", examples=[8.0])
    capacity_bytes: PositiveInt | None = Field(
        default=None,
        description="capacity in bytes; left out, nothing is said about what fits",
        examples=[8_589_934_592],
    )


class Memory(Strict):
    """The memories: [memory.dram] outside, and every other table an on-chip level."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, OnChip]  # pyright: ignore[reportIncompatibleVariableOverride]

    dram: OffChip = Field(description="the memory outside")

    @model_validator(mode="before")
    @classmethod
    def _dram_by_another_name(cls, table: Any) -> Any:
        if not isinstance(table, dict) or "dram" in table:
            return table
        outside = set(OffChip.model_fields) - set(OnChip.model_fields)
        for name, level in table.items():
            if isinstance(level, dict) and outside & set(level):
                raise KeyedError(
                    (name,),
                    "did you mean memory.dram? It has the keys of the memory outside, which is missing, and whose "
                    "table is [memory.dram]",
                )
        return table

    @property
    def levels(self) -> dict[str, OnChip]:
        """The on-chip levels by name, from the array outwards."""
        return dict(self.__pydantic_extra__)

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Names of the levels side by side, from the array outwards."""
        stages: list[list[str]] = []
        taken: set[str] = set()
        for name, level in self.levels.items():
            if not stages or taken & set(level.holds):
                stages.append([])
                taken = set()
            stages[-1].append(name)
            taken |= set(level.holds)
        return tuple(tuple(stage) for stage in stages)

    @model_validator(mode="after")
    def _stages_can_be_searched(self) -> Memory:
        stages = self.stages
        if not 1 <= len(stages) <= MAX_STAGES:
            # The first level that is one too many, or the whole table.
            key = stages[MAX_STAGES][:1] if stages else ()
            in_order = ", then ".join(" + ".join(stage) for stage in stages)
            raise KeyedError(
                key,
                f"between the array and the dram lie 1 to {MAX_STAGES} stages of memories, got {len(stages)}"
                f"{in_order and ': '}{in_order}; levels that hold different operands share a stage",
            )
        return self
