"""The numerics of training on the machine: a layer's table of numerics, as studies write it, and the requantiser.

Its `activations` are what the machine keeps between layers: the emulation rounds to them and the bill follows.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from hw_models.schema.base import Sourced
from lowbit_sim.arith.requant import FloatRequantizer, IntegerRequantizer
from lowbit_sim.config.layer_tables import LayerTable
from lowbit_sim.config.mac_config import MacTable, is_file
from lowbit_sim.config.numerics import check_keys, check_numerics
from lowbit_sim.config.quantizer_config import FormatName
from lowbit_sim.config.tables import checked
from lowbit_sim.numerics.catalog import INT8
from lowbit_sim.numerics.formats import IntFormat

Requantizer = Literal["float", "integer_double", "integer_single"]


class Arithmetic(Sourced, LayerTable):
    """The numerics: formats of each role, rounding of gradients, accumulators, requantiser.

    The keys and the defaults are those of an arm of a study (`lowbit_sim.config`), so that numerics can be moved
    from one to the other as they are.
    """

    format: FormatName = Field(  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
        description="format of inputs, weights and gradients, where no table of a GEMM gives another one",
        examples=["int8"],
    )
    requantizer: Requantizer = Field(
        default="float",
        description='how sums become codes again: "float" (a float32 scale), or an integer multiplier and a shift '
        'that round twice ("integer_double") or once ("integer_single"); vector work in any case',
        examples=["float"],
    )
    result_bits: PositiveInt | None = Field(
        default=None,
        description="width of the codes that results become on their way out of the accumulators where no backward "
        "pass follows; left out, they leave as they were summed",
        examples=[8],
    )

    @model_validator(mode="after")
    def _can_be(self) -> Arithmetic:
        check_keys(self)
        checked(lambda: check_numerics(self))
        return self

    @property
    def reads_products(self) -> bool:
        """Whether a file of products, which may change, is part of the numerics."""
        gemms = (self.output, self.grad_input, self.grad_weight)
        units = (self.mac, *(gemm.mac for gemm in gemms if gemm is not None))
        return any(isinstance(unit, MacTable) and is_file(unit.products) for unit in units)

    def requantize(self, scale: float, format: IntFormat = INT8) -> FloatRequantizer | IntegerRequantizer:
        """The requantiser from sums to codes.

        Args:
            scale: Scale of a sum over the scale of a code.
            format: Format of the codes.

        Raises:
            ValueError: A scale that the requantiser can't take.
        """
        if self.requantizer == "float":
            return FloatRequantizer(scale=scale, format=format)
        rounding = "double" if self.requantizer == "integer_double" else "single"
        return IntegerRequantizer.from_scale(scale, rounding=rounding, format=format)
