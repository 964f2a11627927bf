"""Energy and area of logic, at the node and voltage at which they were published."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from hw_models.schema.base import FigureValue, Sourced, as_tuple
from lowbit_sim.config.tables import KeyedError, Strict


class ByWidth(Strict):
    """A figure at one operand width."""

    bits: PositiveInt = Field(description="width of the operands in bits", examples=[8])
    pj: FigureValue = Field(description="pJ of one operation", examples=[0.2])


def _ascend(name: str, entries: tuple[ByWidth, ...]) -> None:
    if not entries:
        raise KeyedError((name,), f"{name} is empty: give the energy at one width at least")
    for index, (a, b) in enumerate(pairwise(entries), start=1):
        if a.bits >= b.bits or a.pj.nominal > b.pj.nominal:
            raise KeyedError(
                (name, index, "bits" if a.bits >= b.bits else "pj"),
                f"{name} has ascending widths and energies, got {a.pj.nominal} pJ at {a.bits} bits "
                f"before {b.pj.nominal} pJ at {b.bits} bits",
            )


class Energy(Sourced):
    """Energy of logic, at the node and voltage at which it was published.

    Carried to the machine's node and voltage by `energy.technology_scale`; the memories' figures are used as they
    are.
    """

    node_nm: PositiveFloat = Field(description="node of these figures in nm", examples=[45.0])
    voltage_v: PositiveFloat = Field(description="voltage of these figures in V", examples=[0.9])
    multiply: Annotated[tuple[ByWidth, ...], BeforeValidator(as_tuple)] = Field(
        description="integer multiplies by width; a width without a figure goes with the square"
    )
    add: Annotated[tuple[ByWidth, ...], BeforeValidator(as_tuple)] = Field(
        description="integer additions by width; a width without a figure goes linearly"
    )
    register_pj_per_bit: FigureValue = Field(
        description="pJ of a bit that a register of a processing element takes over", examples=[0.003]
    )
    vector_operation_pj: FigureValue = Field(
        description="pJ of an operation of the vector unit on a 32-bit element", examples=[2.3]
    )
    random_bit_pj: FigureValue = Field(description="pJ of a random bit", examples=[0.004])
    static_power_w: NonNegativeFloat = Field(
        description="power in W drawn all the time; 0 to price the switching energy alone", examples=[0.0]
    )

    @model_validator(mode="after")
    def _widths_ascend(self) -> Energy:
        _ascend("multiply", self.multiply)
        _ascend("add", self.add)
        return self


class Area(Sourced):
    """Area of logic at a node; scaled to the machine's with the square of the node."""

    node_nm: PositiveFloat = Field(description="node of these figures in nm", examples=[45.0])
    multiply_um2: PositiveFloat = Field(description="um^2 of a multiplier of multiply_bits", examples=[282.0])
    multiply_bits: PositiveInt = Field(description="its width; other widths go with the square", examples=[8])
    add_um2: PositiveFloat = Field(description="um^2 of an adder of add_bits", examples=[137.0])
    add_bits: PositiveInt = Field(description="its width; other widths go linearly", examples=[32])
    register_um2_per_bit: NonNegativeFloat = Field(
        description="um^2 of a bit of a register in a processing element", examples=[2.0]
    )
