"""The numerics part of a study file: one table that says how a layer computes, and its `OpSpec`.

native = true                                      float32
profile = "NAME"                                   the arithmetic of a machine
format = "int8", accumulator_bits = 16, ...        spelled out, for the three GEMMs alike,
grad_weight = { lhs = "int4", chunk = 32, ... }    with overrides for one of them

What neither a GEMM's table nor the layer's gives is `OpSpec.uniform`'s default for the operand's format.
"""

from __future__ import annotations

from pydantic import model_validator

import hw_models
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.nn.learned import check_learned
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.ops.contraction import TENSORS, Side
from lowbit_sim.ops.linear import MatrixContraction
from lowbit_sim.quant.granularity import PerAxis, PerGroup, PerSample
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.study.gemm_specs import gemm_spec, gradient_operands, reads_gradient
from lowbit_sim.study.layer_tables import BACKWARD, LayerTable, refuse_beside, refuse_two_macs
from lowbit_sim.study.layer_tables import GEMM_ROLES as GEMM_ROLES
from lowbit_sim.study.tables import checked


class NumericsTable(LayerTable):
    """How a layer computes: exactly one of `native`, `profile` and `format`; the rest goes with `format`."""

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
    def _every_key_has_an_effect(self) -> NumericsTable:
        refuse_two_macs(self)
        if self.granularity == "channel" and self.output is not None and self.output.native:
            raise ValueError(
                "granularity = 'channel' would have no effect: it scales the weights of the output GEMM, and "
                "output is native"
            )
        for key in ("gradient_rounding", "gradient", "samples"):
            if getattr(self, key) is not None and not self.has_emulated_gradient():
                what = "rounds the operands" if key == "gradient_rounding" else "is for the left operands"
                raise ValueError(
                    f"{key} would have no effect: it {what} of grad_input and grad_weight, and both are native"
                )
        if self.gradient is not None:
            _refuse_with_gradient(self)
        return self

    @model_validator(mode="after")
    def _can_be(self) -> NumericsTable:
        if self.format is not None:
            checked(lambda: _checked_spec(self))
        return self

    def _kinds(self) -> dict[str, object]:
        return {"native": self.native, "profile": self.profile, "format": self.format}


def op_spec(table: NumericsTable) -> OpSpec | None:
    """The numerics that a table describes; None for native float32.

    Raises:
        ProfileError: A profile that does not exist or is not valid.
    """
    if table.native:
        return None
    if table.profile is not None:
        return hw_models.load(table.profile).op_spec()
    return OpSpec(**{role: gemm_spec(table, role) for role in GEMM_ROLES})


def _refuse_with_gradient(table: NumericsTable) -> None:
    """Refuse what a named gradient quantiser decides already.

    Raises:
        ValueError: Naming the key.
    """
    for key in ("gradient_rounding", "samples"):
        if getattr(table, key) is not None:
            raise ValueError(f"{key} would have no effect beside gradient: write it into gradient's table")
    given = table.transform is not None or table.own("grad_input").transform is not None
    if given and gradient_operands(table).transform is not None:
        raise ValueError("gradient brings a transform of its own: leave transform out")
    readers = [role for role in BACKWARD if reads_gradient(table, role, table.own(role))]
    if not readers:
        raise ValueError("gradient would have no effect: grad_input and grad_weight have an lhs of their own")
    for role in readers:
        for key in ("lhs_rounding", "samples"):
            if getattr(table.own(role), key) is not None:
                raise ValueError(
                    f"{role}: {key} would have no effect beside gradient, which gives {role} its lhs"
                )


def _checked_spec(table: NumericsTable) -> None:
    """Build the numerics of a table that gives a format, and refuse what no layer could run.

    Raises:
        ValueError, TypeError: What can't be, and in which GEMM.
    """
    for role in GEMM_ROLES:
        try:
            spec = gemm_spec(table, role)
            if spec is not None:
                _check_sums(spec, role)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{role}: {error}") from error
    spec = op_spec(table)
    assert spec is not None
    check_learned(spec, "*")
    _check_block_keys(table, spec)


def _check_sums(spec: GemmSpec, role: str) -> None:
    """Refuse scales that vary along the first axis of a tensor where the GEMM sums over it.

    Raises:
        ValueError: Naming the tensor.
    """
    layout = MatrixContraction(rows=1, columns=1, inner=1)
    sides: tuple[Side, Side] = ("lhs", "rhs")
    for side in sides:
        quantizer: Quantizer = getattr(spec, side)
        granularity = quantizer.scale_granularity
        first = isinstance(granularity, PerSample) or (
            isinstance(granularity, PerAxis | PerGroup) and granularity.axis == 0
        )
        if first and spec.transform is None and 0 in layout.reduced(role, side):  # type: ignore[arg-type]
            raise ValueError(
                f"{side}, the {TENSORS[role, side]}, has a scale for each index of its first axis, but the GEMM sums "
                "over that axis, so one scale must hold along it"
            )


def _check_block_keys(table: NumericsTable, spec: OpSpec) -> None:
    gemms = {role: gemm for role in GEMM_ROLES if (gemm := getattr(spec, role)) is not None}
    if table.across is not None and not any(gemm.block for gemm in gemms.values()):
        raise ValueError("across would have no effect: it adds the sums of blocks, and no operand has any")
    for role, gemm in gemms.items():
        if table.own(role).across is not None and not gemm.block:
            raise ValueError(f"{role}: across would have no effect: no operand has blocks")
    for key in ("scale", "granularity"):
        if getattr(table, key) is not None and not takes_layer_key(table, key):
            raise ValueError(f"{key} would have no effect: {table.format} brings its own")


def takes_layer_key(table: NumericsTable, key: str) -> bool:
    """Whether the layer's scale or granularity can mean something: its format is not a block format, or not alone."""
    operands = [
        value for role in GEMM_ROLES for side in ("lhs", "rhs") if (value := getattr(table.own(role), side))
    ]
    names = [
        v if isinstance(v, str) else v.format
        for v in [*operands, table.format]
        if isinstance(v, str) or (v is not None and getattr(v, key) is None)
    ]
    return any(not isinstance(parse_format(name), BlockFormat) for name in names)
