"""From a layer's table to the numerics of its GEMMs: what a GEMM's table leaves out is the layer's, then the default.

The defaults are those of `OpSpec.uniform` for the operand's format.
"""

from __future__ import annotations

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.config.gradient_config import GRADIENTS, TRANSFORMS, GradientOperands
from lowbit_sim.config.layer_tables import BACKWARD, GemmTable, LayerTable, short_keys
from lowbit_sim.config.mac_config import SHORT_KEYS, FloatMacTable, MacTable
from lowbit_sim.config.quantizer_config import SCALES, GranularityTable, build_quantizer, granularity_of
from lowbit_sim.config.tables import RoundingTable
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.ops.contraction import Side
from lowbit_sim.quant.granularity import Granularity, PerBlock, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.transforms import Transform


def gemm_spec(table: LayerTable, role: str) -> GemmSpec | None:
    """The numerics of one of the `GEMM_ROLES` in a table that gives a format; None for native float32.

    Raises:
        ValueError, TypeError: Numerics that can't be.
    """
    own = table.own(role)
    if own.native:
        return None
    lhs, rhs = quantizer_of(table, role, "lhs", own), quantizer_of(table, role, "rhs", own)
    across = own.across or table.across or FloatMacTable()
    return GemmSpec(
        lhs,
        rhs,
        _mac(table, own, lhs, rhs),
        across=across.build(),
        transform=_transform(table, role, own),
        samples=_samples(table, role, own),
    )


def takes_gradient(table: LayerTable, role: str) -> bool:
    """Whether the named gradient quantiser gives a GEMM's left operand."""
    return reads_gradient(table, role, table.own(role))


def reads_gradient(table: LayerTable, role: str, own: GemmTable) -> bool:
    """Whether the named gradient quantiser gives a GEMM's left operand."""
    return table.gradient is not None and role in BACKWARD and not own.native and own.lhs is None


def gradient_operands(table: LayerTable) -> GradientOperands:
    """What the layer's named gradient quantiser stands for."""
    assert table.gradient is not None
    return GRADIENTS.build(table.gradient)


def quantizer_of(table: LayerTable, role: str, side: Side, own: GemmTable) -> Quantizer:
    """The quantiser of one operand.

    Args:
        table: The layer's table.
        role: The GEMM.
        side: The operand.
        own: The GEMM's table.
    """
    if side == "lhs" and reads_gradient(table, role, own):
        return getattr(gradient_operands(table), role)
    rounding = Rounding()
    if side == "lhs":
        gradient = table.gradient_rounding if role in BACKWARD else None
        rounding = (own.lhs_rounding or gradient or RoundingTable(mode="nearest_even")).build()
    try:
        return build_quantizer(
            getattr(own, side) or table.format or "",
            scale=None if table.scale is None else SCALES.build(table.scale),
            granularity=_layer_granularity(table, role, side),
            rounding=rounding,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{side}: {error}") from error


def _layer_granularity(table: LayerTable, role: str, side: Side) -> Granularity:
    """What the layer's granularity means for one operand.

    Raises:
        ValueError: An axis, which would be one of another tensor in each place.
    """
    value = table.granularity
    if isinstance(value, GranularityTable):
        granularity = value.build()
        if not isinstance(granularity, PerBlock):
            raise ValueError(
                "granularity names an axis, which is another one in each tensor: give it in the table of an "
                "operand, as in output = { rhs = { format = ..., granularity = { axis = 0 } } }"
            )
        return granularity
    # Only the forward GEMM sums over everything but a weight's first axis, and only these two keep the samples.
    places = {"channel": [("output", "rhs")], "sample": [("output", "lhs"), ("grad_input", "lhs")]}
    if value is not None and (role, side) in places.get(value, []):
        return granularity_of(value)
    return PerTensor()


def _transform(table: LayerTable, role: str, own: GemmTable) -> Transform | None:
    if own.transform is not None:
        return TRANSFORMS.build(own.transform)
    if (
        role == "grad_input"
        and reads_gradient(table, role, own)
        and gradient_operands(table).transform is not None
    ):
        return gradient_operands(table).transform
    return None if table.transform is None else TRANSFORMS.build(table.transform)


def _samples(table: LayerTable, role: str, own: GemmTable) -> int:
    if own.samples is not None:
        return own.samples
    if reads_gradient(table, role, own):
        return GRADIENTS.table(table.gradient).samples  # type: ignore[arg-type]
    return table.samples or 1 if role in BACKWARD else 1


def mac_table(table: LayerTable, own: GemmTable) -> MacTable | FloatMacTable | None:
    """The table of a GEMM's MAC unit: its own, else the layer's; None if only the operands decide.

    Raises:
        ValueError: A GEMM's keys that have no unit to go with.
    """
    keys = short_keys(own)
    if own.mac is not None:
        return own.mac
    if table.mac is not None:
        if keys:
            raise ValueError(
                f"{', '.join(keys)} can't change the layer's mac: give this GEMM a mac of its own"
            )
        return table.mac
    chosen = {key: getattr(own if key in keys else table, key) for key in SHORT_KEYS}
    given = {key: value for key, value in chosen.items() if value is not None}
    return MacTable(**given) if given else None


def _mac(table: LayerTable, own: GemmTable, lhs: Quantizer, rhs: Quantizer) -> MacUnit | FloatMacUnit:
    defaults = [default_mac(lhs), default_mac(rhs)]
    chosen = mac_table(table, own)
    if isinstance(chosen, FloatMacTable):
        return chosen.build()
    integer = [mac.accumulator_bits for mac in defaults if isinstance(mac, MacUnit)]
    if chosen is None and len(integer) < len(defaults):
        return FloatMacUnit()
    return (chosen or MacTable()).build(max(integer, default=32))


def default_mac(quantizer: Quantizer) -> MacUnit | FloatMacUnit:
    """The MAC unit that `OpSpec.uniform` gives a format."""
    return OpSpec.uniform(quantizer.format).output.mac  # type: ignore[union-attr]


def layer_mac(table: LayerTable) -> MacUnit | FloatMacUnit:
    """The MAC unit of a GEMM whose operands both have the layer's format and that has no table of its own."""
    operand = build_quantizer(table.format or "")
    return _mac(table, GemmTable(), operand, operand)
