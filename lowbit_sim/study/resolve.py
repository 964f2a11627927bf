"""A study with every default written out, so that a record says what ran even after a default has changed.

Only what has no value stays out: a limit that is not set, an outer accumulator that does not exist, and keys
that would have no effect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.config.gemm_specs import gemm_spec, layer_mac, mac_table, quantizer_of, takes_gradient
from lowbit_sim.config.gradient_config import GRADIENTS, TRANSFORMS
from lowbit_sim.config.layer_tables import GEMM_ROLES, GemmTable
from lowbit_sim.config.mac_config import FloatMacTable, MacTable
from lowbit_sim.config.numerics import takes_layer_key
from lowbit_sim.config.quantizer_config import SCALES, QuantizerTable, default_scale, full_table
from lowbit_sim.config.tables import RoundingTable
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.ops.contraction import Side
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.study.config import ArmTable, RuleTable, Study
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.numerics_config import NumericsTable

Table = TypeVar("Table", bound=NumericsTable)


def resolved(study: Study) -> Study:
    """The same study, without a default left to the code that reads it.

    The arithmetic of every layer is the same; a study that is resolved already comes back equal.
    """
    _, own_width, _, _ = MODELS[study.model.name]
    model = study.model.model_copy(update={"width": study.model.width or own_width})
    return study.model_copy(update={"model": model, "arms": tuple(map(_arm, study.arms))})


def _arm(arm: ArmTable) -> ArmTable:
    filled: dict[str, Any] = {
        "rules": tuple(map(_rule, arm.rules)),
        "recipes": tuple(recipe.written() for recipe in arm.recipes),
    }
    if arm.update is not None:
        filled["update"] = arm.update.written()
    return _numerics(arm.model_copy(update=filled))


def _rule(rule: RuleTable) -> RuleTable:
    if rule.elementwise is not None:
        return rule.model_copy(update={"elementwise": rule.elementwise.written()})
    return _numerics(rule)


def _numerics(table: Table) -> Table:
    if table.format is None:  # native float32, or a profile, which is spelled out in its own file
        return table
    specs = {role: gemm_spec(table, role) for role in GEMM_ROLES}
    filled: dict[str, Any] = {**_operand_keys(table), **_mac_keys(table, specs)}
    if table.gradient is not None:
        filled["gradient"] = GRADIENTS.written(table.gradient)
    elif table.has_emulated_gradient():
        filled["gradient_rounding"] = table.gradient_rounding or RoundingTable.of(Rounding(), "saturate")
    if table.transform is not None:
        filled["transform"] = TRANSFORMS.written(table.transform)
    if table.activations is not None:
        filled["activations"] = table.activations.written()
    if any(spec is not None and spec.block for spec in specs.values()):
        across = table.across or FloatMacTable()
        filled["across"] = across.written(across.build())
    return _with_gemms(table, table.model_copy(update=filled), specs)


def _operand_keys(table: NumericsTable) -> dict[str, Any]:
    """Scale and granularity; those of a block format are its own."""
    fmt = parse_format(table.format or "")
    filled: dict[str, Any] = {}
    if table.scale is not None:
        filled["scale"] = SCALES.written(table.scale)
    elif not isinstance(fmt, BlockFormat):
        filled["scale"] = SCALES.value_of(default_scale(fmt))
    if not isinstance(fmt, BlockFormat) or takes_layer_key(table, "granularity"):
        filled["granularity"] = table.granularity or "tensor"
    return filled


def _mac_keys(table: NumericsTable, specs: dict[str, GemmSpec | None]) -> dict[str, Any]:
    mac = layer_mac(table)
    if table.mac is not None:
        return {"mac": table.mac.written(mac)}  # type: ignore[arg-type]
    if not isinstance(mac, MacUnit):
        return {"mac": FloatMacTable().written(mac)}
    # What a GEMM's table leaves out is taken from the layer's, so an outer accumulator's width would give one to
    # a GEMM that sums without chunks.
    own = [spec for role, spec in specs.items() if spec is not None and getattr(table, role) is not None]
    keeps_chunks = all(spec.mac.chunk for spec in own)
    outer = mac.result_bits if mac.chunk and keeps_chunks else table.outer_bits
    return {**_short_mac(mac), "outer_bits": outer}


def _short_mac(mac: MacUnit) -> dict[str, Any]:
    return {
        "accumulator_bits": mac.accumulator_bits,
        "overflow": mac.overflow,
        "chunk": mac.chunk,
        "outer_bits": mac.result_bits if mac.chunk else mac.outer_bits,
    }


def _with_gemms(table: NumericsTable, filled: Table, specs: dict[str, GemmSpec | None]) -> Table:
    """The filled table with the tables of the GEMMs that have one, or whose MAC unit is not the layer's."""
    gemms = {}
    for role, spec in specs.items():
        own: GemmTable | None = getattr(table, role)
        if spec is None or (own is None and _mac_of(filled, role) == _arithmetic(spec)):
            continue
        gemms[role] = _gemm(table, filled, role, spec)
    filled = filled.model_copy(update=gemms)
    unread = [key for key in ("scale", "granularity") if not takes_layer_key(filled, key)]
    return filled.model_copy(update=dict.fromkeys(unread))


def _mac_of(table: NumericsTable, role: str) -> object:
    """The arithmetic of a GEMM's MAC unit in a filled table; None if the layer's unit can't multiply its operands."""
    try:
        spec = gemm_spec(table, role)
    except (ValueError, TypeError):
        return None
    assert spec is not None
    return _arithmetic(spec)


def _arithmetic(spec: GemmSpec) -> MacUnit | FloatMacUnit:
    """A GEMM's MAC unit with what may be left out: an outer accumulator like the inner one, products' rounding."""
    mac = spec.mac
    if isinstance(mac, MacUnit):
        return replace(mac, outer_bits=mac.result_bits if mac.chunk else mac.outer_bits)
    return replace(
        mac,
        outer=mac.result_format if mac.chunk else mac.outer,
        product_rounding=mac.rounding_of_products if mac.product else None,
    )


def _gemm(table: NumericsTable, filled: NumericsTable, role: str, spec: GemmSpec) -> GemmTable:
    """A GEMM's own table, with the values that it takes from the layer's."""
    own = table.own(role)
    keys: dict[str, Any] = {"rhs": _operand(table, filled, role, "rhs", own, spec.rhs)}
    if not takes_gradient(table, role):
        keys["lhs"] = _operand(table, filled, role, "lhs", own, spec.lhs)
        short = isinstance(keys["lhs"], str)
        keys["lhs_rounding"] = RoundingTable.of(spec.lhs.rounding, "saturate") if short else None
    if own.transform is not None:
        keys["transform"] = TRANSFORMS.written(own.transform)
    if own.across is not None:
        keys["across"] = own.across.written(own.across.build())
    return own.model_copy(update={**keys, **_gemm_mac(table, filled, own, spec)})


def _operand(
    table: NumericsTable,
    filled: NumericsTable,
    role: str,
    side: Side,
    own: GemmTable,
    quantizer: Quantizer,
) -> str | QuantizerTable:
    """An operand by its format's name where the filled layer's table says the rest, else spelled out."""
    given = getattr(own, side)
    if isinstance(given, QuantizerTable):
        return full_table(quantizer, given.format)
    name: str = given or table.format or ""
    rounding = RoundingTable.of(quantizer.rounding, "saturate") if side == "lhs" else None
    probe = GemmTable(**{side: name, "lhs_rounding": rounding})
    return name if quantizer_of(filled, role, side, probe) == quantizer else full_table(quantizer, name)


def _gemm_mac(table: NumericsTable, filled: NumericsTable, own: GemmTable, spec: GemmSpec) -> dict[str, Any]:
    chosen = mac_table(table, own)
    if isinstance(spec.mac, MacUnit):
        if own.mac is None and filled.mac is None:
            return _short_mac(spec.mac)
        source = chosen if isinstance(chosen, MacTable) else MacTable()
        unset = dict.fromkeys(_short_mac(spec.mac))
        return {**unset, "mac": source.written(spec.mac)}
    source = chosen if isinstance(chosen, FloatMacTable) else FloatMacTable()
    return {"mac": source.written(spec.mac)}
