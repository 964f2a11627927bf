"""The numerics part of a study file: one table that says how a layer computes, and its `OpSpec`.

native = true                                      float32
native = "bf16"                                    the machine's own products in a narrower format: see `native_arms`
profile = "NAME"                                   the arithmetic of a machine
format = "int8", accumulator_bits = 16, ...        spelled out, for the three GEMMs alike,
grad_weight = { lhs = "int4", chunk = 32, ... }    with overrides for one of them

What neither a GEMM's table nor the layer's gives is `OpSpec.uniform`'s default for the operand's format.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

import hw_models
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.config.layer_tables import GEMM_ROLES as GEMM_ROLES
from lowbit_sim.config.layer_tables import LayerTable, refuse_beside
from lowbit_sim.config.numerics import activation_spec, check_keys, check_numerics, layer_spec
from lowbit_sim.config.tables import checked
from lowbit_sim.ops.elementwise import ElementwiseSpec
from lowbit_sim.study import native_arms
from lowbit_sim.study.native_arms import NATIVE_MODES, Native
from lowbit_sim.study.weights_config import WeightsTable


def _native(value: Any) -> Any:
    if value == "fp32":
        return True
    if not isinstance(value, bool) and value not in NATIVE_MODES:
        known = ", ".join(f'"{mode}"' for mode in ("fp32", *NATIVE_MODES))
        raise ValueError(f"expected true for float32, or the format of the machine's products: {known}")
    return value


class NumericsTable(LayerTable):
    """How a layer computes: exactly one of `native`, `profile` and `format`; the rest goes with `format`.

    Attributes:
        native: In float32; or for an arm as a whole, in one of the `native_arms.NATIVE_MODES`.
        profile: As the machine of this profile does.
        weights: What is done to the weights before they are quantised.
    """

    native: Annotated[Native, BeforeValidator(_native)] = False
    profile: str | None = None
    weights: WeightsTable | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> NumericsTable:
        kinds = self._kinds()
        given = [key for key, value in kinds.items() if value]
        if len(given) != 1:
            *others, last = ["native = true", *(key for key in kinds if key != "native")]
            raise ValueError(
                f"give exactly one of {', '.join(others)} and {last}, got {' and '.join(given) or 'none'}"
            )
        if given != ["format"]:
            refuse_beside(self, given[0])
        return self

    @model_validator(mode="after")
    def _can_be(self) -> NumericsTable:
        if self.format is not None:
            check_keys(self)
            checked(lambda: check_numerics(self))
        return self

    def _kinds(self) -> dict[str, object]:
        return {"native": self.native, "profile": self.profile, "format": self.format}


def activations(table: NumericsTable) -> ElementwiseSpec | None:
    """The formats of the tensors between modules that a table describes; None for float32.

    Raises:
        ProfileError: A profile that does not exist or is not valid.
    """
    if table.profile is not None:
        return hw_models.load(table.profile).activation_spec()
    return activation_spec(table)


def op_spec(table: NumericsTable) -> OpSpec | None:
    """The numerics that a table describes; None for native float32.

    Raises:
        ProfileError: A profile that does not exist or is not valid.
    """
    if table.native:
        return native_arms.op_spec(table.native)
    if table.profile is not None:
        return hw_models.load(table.profile).op_spec()
    return layer_spec(table)
