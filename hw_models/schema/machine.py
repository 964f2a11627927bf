"""What the machine is, and its clock."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from hw_models.schema.base import Sourced, Text


class Machine(Sourced):
    """What the machine is."""

    name: Text = Field(
        pattern="^[a-z][a-z0-9_]*$", description="name of the machine", examples=["my_machine"]
    )
    description: Text = Field(description="one line about it", examples=["An 8-bit systolic array"])
    node_nm: PositiveFloat = Field(description="process node in nm", examples=[22.0])
    voltage_v: PositiveFloat = Field(description="supply voltage in V", examples=[0.8])
    validation: Text = Field(
        description='what published figures this profile was compared with, or "not validated" and why',
        examples=["not validated: example figures"],
    )


class Clock(Sourced):
    """The clock of the whole machine."""

    frequency_hz: PositiveInt = Field(description="clock frequency in Hz", examples=[1_000_000_000])
