"""A machine as data: the numerics that it computes with, and the whole of its profile.

The same file decides the bits (`HardwareProfile.op_spec`) and the bill (`hw_models.estimate`). The parts of the
machine are in `schema`; `README.md` describes each key for whoever writes a profile.
"""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field

from hw_models.schema.arithmetic import Arithmetic
from hw_models.schema.array import Array
from hw_models.schema.energy import Area, Energy
from hw_models.schema.interconnect import Interconnect
from hw_models.schema.machine import Clock, Machine
from hw_models.schema.memory import Memory
from hw_models.schema.vector import Vector
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.config.numerics import activation_spec, layer_spec
from lowbit_sim.config.tables import Strict
from lowbit_sim.numerics.suggest import unknown


class HardwareProfile(Strict):
    """A machine. Made by `hw_models.load`, or from a text by `hw_models.parse`."""

    machine: Machine = Field(description="what the machine is")
    clock: Clock = Field(description="the clock")
    array: Array = Field(description="the arrays of processing elements")
    vector: Vector = Field(description="the unit that does everything but the array's GEMMs")
    arithmetic: Arithmetic = Field(description="the numerics of training on this machine")
    memory: Memory = Field(description="the memories")
    energy: Energy = Field(description="energy of logic")
    area: Area | None = Field(
        default=None, description="area of logic; left out, no area of the array is estimated"
    )
    interconnect: Interconnect | None = Field(
        default=None, description="links between machines; left out, the machine trains alone"
    )

    def op_spec(self) -> OpSpec:
        """The numerics of a layer on this machine."""
        if self.arithmetic.reads_products:
            return layer_spec(self.arithmetic)
        return _op_spec(self.arithmetic)  # pyright: ignore[reportArgumentType]  (`Sourced` has a hash)

    def activation_spec(self) -> ElementwiseSpec | None:
        """The formats in which this machine keeps the tensors between modules; None for float32."""
        return activation_spec(self.arithmetic)

    def gemm_spec(self, role: str) -> GemmSpec | None:
        """The numerics of a layer's GEMM of one role; None for native float32.

        Args:
            role: "output", "grad_input" or "grad_weight".

        Raises:
            ValueError: Another role.
        """
        if role not in GEMM_ROLES:
            raise ValueError(unknown("GEMM role", role, GEMM_ROLES))
        return getattr(self.op_spec(), role)


@lru_cache(maxsize=256)
def _op_spec(arithmetic: Arithmetic) -> OpSpec:
    return layer_spec(arithmetic)
