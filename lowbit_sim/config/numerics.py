"""A layer's table of numerics, with checks: a format for the three GEMMs alike, and overrides for one of them.

    format = "int8", accumulator_bits = 16, ...
    grad_weight = { lhs = "int4", chunk = 32, ... }

What neither a GEMM's table nor the layer's gives is `OpSpec.uniform`'s default for the operand's format. A key that
would have no effect is an error.
"""

from __future__ import annotations

from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.config.gemm_specs import gemm_spec, gradient_operands, reads_gradient
from lowbit_sim.config.layer_tables import BACKWARD, GEMM_ROLES, LayerTable, refuse_two_macs
from lowbit_sim.config.tables import KeyedError
from lowbit_sim.nn.learned import check_learned
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.ops.contraction import TENSORS, Side
from lowbit_sim.ops.linear import MatrixContraction
from lowbit_sim.quant.granularity import PerAxis, PerGroup, PerSample
from lowbit_sim.quant.quantizer import Quantizer


def layer_spec(table: LayerTable) -> OpSpec:
    """The numerics of a layer whose table gives a format.

    Raises:
        ValueError, TypeError: Numerics that can't be.
    """
    return OpSpec(**{role: gemm_spec(table, role) for role in GEMM_ROLES})


def activation_spec(table: LayerTable) -> ElementwiseSpec | None:
    """The formats of the tensors between modules; None for float32."""
    return None if table.activations is None else table.activations.build()


def check_keys(table: LayerTable) -> None:
    """Refuse keys that would have no effect.

    Raises:
        ValueError: Naming them.
    """
    refuse_two_macs(table)
    if table.granularity == "channel" and table.output is not None and table.output.native:
        raise ValueError(
            "granularity = 'channel' would have no effect: it scales the weights of the output GEMM, and "
            "output is native"
        )
    for key in ("gradient_rounding", "gradient", "samples"):
        if getattr(table, key) is not None and not table.has_emulated_gradient():
            what = "rounds the operands" if key == "gradient_rounding" else "is for the left operands"
            raise ValueError(
                f"{key} would have no effect: it {what} of grad_input and grad_weight, and both are native"
            )
    if table.gradient is not None:
        _refuse_with_gradient(table)


def _refuse_with_gradient(table: LayerTable) -> None:
    """Refuse what a named gradient quantiser decides already.

    Raises:
        ValueError: Naming the key.
    """
    for key in ("gradient_rounding", "samples"):
        if getattr(table, key) is not None:
            raise KeyedError(
                (key,), f"{key} would have no effect beside gradient: write it into gradient's table"
            )
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


def check_numerics(table: LayerTable) -> None:
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
    spec = layer_spec(table)
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


def _check_block_keys(table: LayerTable, spec: OpSpec) -> None:
    gemms = {role: gemm for role in GEMM_ROLES if (gemm := getattr(spec, role)) is not None}
    if table.across is not None and not any(gemm.block for gemm in gemms.values()):
        raise ValueError("across would have no effect: it adds the sums of blocks, and no operand has any")
    for role, gemm in gemms.items():
        if table.own(role).across is not None and not gemm.block:
            raise ValueError(f"{role}: across would have no effect: no operand has blocks")
    for key in ("scale", "granularity"):
        if getattr(table, key) is not None and not takes_layer_key(table, key):
            raise ValueError(f"{key} would have no effect: {table.format} brings its own")


def takes_layer_key(table: LayerTable, key: str) -> bool:
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
