"""A study with every default written out, so that a record says what ran even after a default has changed.

Only what has no value stays out: a limit that is not set, an outer accumulator that does not exist, and keys
that would have no effect.
"""

from __future__ import annotations

from typing import Any, TypeVar

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.numerics_config import (
    GEMM_ROLES,
    GemmTable,
    NumericsTable,
    RoundingTable,
    gemm_spec,
    layer_mac,
)

Table = TypeVar("Table", bound=NumericsTable)


def resolved(study: Study) -> Study:
    """The same study, without a default left to the code that reads it.

    The arithmetic of every layer is the same; a study that is resolved already comes back equal.
    """
    _, own_width, _, _ = MODELS[study.model.name]
    model = study.model.model_copy(update={"width": study.model.width or own_width})
    return study.model_copy(update={"model": model, "arms": tuple(map(_arm, study.arms))})


def _arm(arm: ArmTable) -> ArmTable:
    return _numerics(arm.model_copy(update={"rules": tuple(map(_numerics, arm.rules))}))


def _numerics(table: Table) -> Table:
    if table.format is None:  # native float32, or a profile, which is spelled out in its own file
        return table
    # What a GEMM's table leaves out is taken from the layer's, so the layer's values may only be filled in
    # when those of the GEMMs are.
    gemms = {role: _gemm(table, role) for role in GEMM_ROLES if getattr(table, role) is not None}
    mac = layer_mac(table)
    keeps_chunks = all(gemm.native or gemm.chunk for gemm in gemms.values())
    filled: dict[str, Any] = {
        "granularity": table.granularity or "tensor",
        "scale": table.scale or "absmax",
        **_mac_keys(mac),
        # An outer accumulator's width would give one to a GEMM that sums without chunks.
        "outer_bits": mac.result_bits if mac.chunk and keeps_chunks else table.outer_bits,
        **gemms,
    }
    if table.has_emulated_gradient():
        filled["gradient_rounding"] = table.gradient_rounding or _rounding(Rounding())
    return table.model_copy(update=filled)


def _gemm(table: NumericsTable, role: str) -> GemmTable:
    """A GEMM's own table, with the values that it takes from the layer's."""
    own: GemmTable = getattr(table, role)
    gemm: GemmSpec | None = gemm_spec(table, role)
    if gemm is None:
        return own
    filled = {
        "lhs": own.lhs or table.format,
        "rhs": own.rhs or table.format,
        "lhs_rounding": _rounding(gemm.lhs.rounding),
        **_mac_keys(gemm.mac),
    }
    return own.model_copy(update=filled)


def _mac_keys(mac: MacUnit) -> dict[str, Any]:
    return {
        "accumulator_bits": mac.accumulator_bits,
        "overflow": mac.overflow,
        "chunk": mac.chunk,
        "outer_bits": mac.result_bits if mac.chunk else mac.outer_bits,
    }


def _rounding(rounding: Rounding) -> RoundingTable:
    return RoundingTable(mode=rounding.mode, random_bits=rounding.random_bits)
