"""Formats of [arithmetic] that no mode of the array multiplies."""

from __future__ import annotations

from collections.abc import Iterator

from hw_models.array_gemms import ROLES
from hw_models.checks.remark import Remark
from hw_models.operands import UnsupportedOperandError, gemm_modes
from hw_models.profile import HardwareProfile
from hw_models.spec_event import spec_event


def check_modes(profile: HardwareProfile) -> Iterator[Remark]:
    """Formats of [arithmetic] that no mode of the array multiplies."""
    for role in ROLES:
        spec = profile.gemm_spec(role)
        if spec is None:  # float32 by choice
            continue
        event = spec_event(spec, role, 1, 1, 1)
        own = getattr(profile.arithmetic, role)
        location = ("arithmetic", role) if own is not None else ("arithmetic", "format")
        known = ", ".join(f"{mode.kind} {mode.operand_bits}" for mode in profile.array.modes)
        product = f"{event.lhs.format} x {event.rhs.format}"
        try:
            modes = gemm_modes(event, profile)
        except UnsupportedOperandError:
            yield Remark(
                location=location,
                severity="error",
                message=f"the array multiplies no {product} ({role}); its modes are {known} bits: add an "
                "[[array.modes]] that holds both operands, or choose another format",
            )
            continue
        if modes is None:
            lanes = profile.vector.operations_per_cycle
            yield Remark(
                location=location,
                message=f"no mode of the array holds {product} ({role}), so that it runs on the vector unit, at "
                f"{lanes} multiply-accumulates a cycle; its modes are {known} bits: add an [[array.modes]] or "
                "choose another format",
            )
