"""The vector unit: lanes, what each kind of work takes, and random bits."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from hw_models.schema.arithmetic import Requantizer
from hw_models.schema.base import Sourced
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import VECTOR_KINDS

#: Operations that an element of each kind of work takes, where a profile gives no other number.
OPERATIONS: dict[str, float] = {
    "quantize": 3.0,  # multiply by the scale's reciprocal, round, clip
    "scale_reduction": 2.0,  # magnitude, maximum
    "random_bits": 1.0,
    "dequantize": 2.0,  # convert, multiply
    "requantize": 4.0,  # convert, multiply, round, clip
    "batch_norm": 4.0,  # two for the statistics, multiply and add
    "activation": 1.0,
    "pooling": 1.0,
    "loss": 4.0,  # exponential, sum, divide, subtract
    "optimizer_update": 4.0,  # momentum and weight: a multiply and an add each
    "hypernetwork": 1.0,  # the event counts operations
    "embedding": 1.0,
    "transform": 1.0,
}

#: The same of "requantize" by `arithmetic.requantizer`.
REQUANTIZE_OPERATIONS: dict[Requantizer, float] = {
    "float": OPERATIONS["requantize"],
    "integer_double": 4.0,  # multiply, round, shift and round, clip
    "integer_single": 3.0,  # multiply, shift and round, clip
}


class Vector(Sourced):
    """The unit that does everything but GEMMs, and GEMMs of floats that the array has no mode for."""

    lanes: PositiveInt = Field(description="elements worked on at once", examples=[16])
    operations_per_lane_per_cycle: PositiveInt = Field(
        description="operations that a lane finishes in a cycle", examples=[1]
    )
    random_bits_per_cycle: NonNegativeInt = Field(
        description="random bits drawn in a cycle by a unit of their own; 0 without one", examples=[128]
    )
    operations_per_random_word: PositiveInt = Field(
        default=6, description="without such a unit: operations that computing 32 random bits takes"
    )
    overlaps_array: bool = Field(
        default=False, description="whether vector work of a layer runs while the array works on that layer"
    )
    fuses: bool = Field(
        default=False,
        description="whether element-wise work takes its operand straight from the work before it",
    )
    operations: dict[str, PositiveFloat] = Field(
        default={},
        description="operations that an element of a kind of work takes, where it is another number than usual",
        examples=[{"batch_norm": 4.0}],
    )

    @field_validator("operations")
    @classmethod
    def _known_kinds(cls, operations: dict[str, float]) -> dict[str, float]:
        for kind in operations:
            if kind not in VECTOR_KINDS:
                raise ValueError(unknown("kind of vector work", kind, VECTOR_KINDS))
        return operations

    @property
    def operations_per_cycle(self) -> int:
        """Peak operations of all lanes; an operation of a GEMM is a multiply-accumulate."""
        return self.lanes * self.operations_per_lane_per_cycle

    def operations_per_element(self, kind: str, requantizer: Requantizer = "float") -> float:
        """What an element of a kind of work takes.

        Args:
            kind: One of `lowbit_sim.trace.VECTOR_KINDS`.
            requantizer: What makes codes of sums.
        """
        usual = REQUANTIZE_OPERATIONS[requantizer] if kind == "requantize" else OPERATIONS.get(kind, 1.0)
        return self.operations.get(kind, usual)
