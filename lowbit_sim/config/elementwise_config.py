"""The formats of tensors between modules, as a table.

{ output = "bf16", grad_input = { format = "fp8_e5m2", rounding = {...} }, grad_output = "bf16" }
"""

from __future__ import annotations

from pydantic import Field, model_validator

from lowbit_sim.config.quantizer_config import OperandValue, build_quantizer, full_table
from lowbit_sim.config.tables import Strict, checked
from lowbit_sim.ops.elementwise import ELEMENTWISE_STREAMS
from lowbit_sim.ops.elementwise import ElementwiseSpec as ElementwiseSpec

_ROLES = tuple(ELEMENTWISE_STREAMS)


class ElementwiseTable(Strict):
    """The formats of what modules put out and of the gradients; what is left out stays in float32."""

    output: OperandValue | None = Field(default=None, description="what a module puts out", examples=["bf16"])
    grad_input: OperandValue | None = Field(
        default=None, description="the gradient that it hands back", examples=["bf16"]
    )
    grad_output: OperandValue | None = Field(
        default=None,
        description="the gradient of what it puts out, summed over all that read it",
        examples=["bf16"],
    )

    @model_validator(mode="after")
    def _is_valid(self) -> ElementwiseTable:
        if all(getattr(self, role) is None for role in _ROLES):
            raise ValueError(f"give one or more of {', '.join(_ROLES)}")
        checked(self.build)
        return self

    def build(self) -> ElementwiseSpec:
        """The numerics.

        Raises:
            ValueError, TypeError: As `Quantizer` and `ElementwiseSpec`.
        """
        given = {role: getattr(self, role) for role in _ROLES}
        return ElementwiseSpec(**{role: value and build_quantizer(value) for role, value in given.items()})

    def written(self) -> ElementwiseTable:
        """The table with every default written out."""
        spec = self.build()
        filled = {}
        for role in _ROLES:
            value, quantizer = getattr(self, role), getattr(spec, role)
            if quantizer is not None:
                filled[role] = full_table(quantizer, value if isinstance(value, str) else value.format)
        return self.model_copy(update=filled)
