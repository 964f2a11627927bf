"""The links between machines that train together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from hw_models.schema.base import FigureValue, Sourced

Topology = Literal["ring", "torus_2d", "fully_connected"]


class Interconnect(Sourced):
    """Links between equal machines, for data-parallel training."""

    topology: Topology = Field(
        description='how they are linked: "ring", "torus_2d" or "fully_connected"', examples=["ring"]
    )
    link_bandwidth_bytes_per_second: PositiveInt = Field(
        description="bytes a second of one link in one direction", examples=[25_000_000_000]
    )
    links_per_device: PositiveInt = Field(description="links of a machine", examples=[2])
    latency_s: NonNegativeFloat = Field(
        description="seconds that a message takes beside its bytes", examples=[1e-6]
    )
    pj_per_bit: FigureValue = Field(description="pJ to send a bit over a link", examples=[10.0])
