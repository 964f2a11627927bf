"""Formats and accumulators of [arithmetic] for which no mode of the array is made."""

from __future__ import annotations

from collections.abc import Iterator

from hw_models.array_gemms import ROLES
from hw_models.checks.numerics import unit_key
from hw_models.checks.remark import Remark
from hw_models.notes import adds_floats_as_integers
from hw_models.operands import UnsupportedOperandError, gemm_modes
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from hw_models.spec_event import spec_event
from lowbit_sim.trace import GemmEvent, Role


def check_modes(profile: HardwareProfile) -> Iterator[Remark]:
    """Formats that no mode multiplies or only a wider one, and float accumulators of integer modes."""
    yield from dict.fromkeys(remark for role in ROLES for remark in _of_gemm(profile, role))


def _of_gemm(profile: HardwareProfile, role: Role) -> Iterator[Remark]:
    spec = profile.gemm_spec(role)
    if spec is None:  # float32 by choice
        return
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
        return
    if modes is None:
        lanes = profile.vector.operations_per_cycle
        yield Remark(
            location=location,
            message=f"no mode of the array holds {product} ({role}), so that it runs on the vector unit, at "
            f"{lanes} multiply-accumulates a cycle; its modes are {known} bits: add an [[array.modes]] or "
            "choose another format",
        )
        return
    yield from _wider_modes(event, modes, location, known)
    if adds_floats_as_integers(event, modes[2]):
        yield _float_sums(profile, event, modes[2])


def _wider_modes(
    event: GemmEvent, modes: tuple[Mode, Mode, Mode], location: tuple[str, ...], known: str
) -> Iterator[Remark]:
    """Operands that run in more bits than they have."""
    for operand, stored in ((event.lhs, modes[0]), (event.rhs, modes[1])):
        if operand.bits < stored.operand_bits:
            yield Remark(
                location=location,
                message=f"{operand.format} has no mode of its {operand.bits} bits: it is stored and multiplied in "
                f"{stored.operand_bits} bits; the array's modes are {known} bits: add an [[array.modes]] of "
                f"{operand.bits} bits if the machine has one, or choose a format of {stored.operand_bits} bits",
            )


def _float_sums(profile: HardwareProfile, event: GemmEvent, mode: Mode) -> Remark:
    return Remark(
        location=unit_key(profile, event.role, "accumulator"),
        message=f"a {event.accumulator_bits}-bit floating-point accumulator adds up the products of the "
        f"{mode.operand_bits}-bit integer mode, whose adder is an integer one, and is priced as such: give an "
        "integer accumulator (accumulator_bits), or formats that run in an [[array.modes]] of kind = 'float'",
    )
