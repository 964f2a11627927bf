"""Which mode of the array a GEMM runs in, or the vector unit, and in how many bits its operands are stored.

An operand narrower than every mode runs, and is stored, in the narrowest mode that holds it: a machine
without a 4-bit mode has no 4-bit words either. The wider operand of a GEMM decides the mode of both.

Two floats of at most 32 bits of which one fits no float mode run on the vector unit, whose elements are 32 bits
wide. An integer wider than every integer mode, and a float with an integer, run nowhere.
"""

from __future__ import annotations

from hw_models.profile import HardwareProfile
from hw_models.tables import Mode
from lowbit_sim.trace import GemmEvent, Operand

#: Names of formats whose elements an integer multiplier takes; scales of blocks are not the multiplier's.
_INTEGER_PREFIXES = ("int", "uint", "fixed", "mxint", "bfp")

#: Width of the vector unit's elements: `energy.vector_element_pj` is of one fp32 multiply and one fp32 add.
VECTOR_ELEMENT_BITS = 32


class UnsupportedOperandError(ValueError):
    """A GEMM with an operand that the machine can't multiply."""


def operand_mode(operand: Operand, profile: HardwareProfile) -> Mode | None:
    """The narrowest mode that holds an operand, or None."""
    fitting = [m for m in profile.array.modes if m.kind == _kind(operand) and m.operand_bits >= operand.bits]
    return min(fitting, key=lambda m: m.operand_bits, default=None)


def gemm_modes(event: GemmEvent, profile: HardwareProfile) -> tuple[Mode, Mode, Mode] | None:
    """The modes in which the left and the right operand are stored, and the mode in which the GEMM runs.

    None for floats that the array has no mode for: they run on the vector unit.

    Raises:
        UnsupportedOperandError: An integer wider than every integer mode, a float wider than the float modes and
            the vector unit, or a float with an integer.
    """
    if _kind(event.lhs) != _kind(event.rhs):
        raise UnsupportedOperandError(
            f"{place(event)}: lhs is {event.lhs.format} and rhs is {event.rhs.format}, but "
            f"{profile.machine.name} multiplies two integers or two floats"
        )
    lhs, rhs = operand_mode(event.lhs, profile), operand_mode(event.rhs, profile)
    if lhs is not None and rhs is not None:
        return lhs, rhs, max(lhs, rhs, key=lambda m: m.operand_bits)
    for side, mode in (("lhs", lhs), ("rhs", rhs)):
        operand: Operand = getattr(event, side)
        if mode is None and (_kind(operand) == "integer" or operand.bits > VECTOR_ELEMENT_BITS):
            raise UnsupportedOperandError(
                f"{place(event)}: {side} is {operand.format} ({operand.bits} bits), but "
                f"{profile.machine.name} multiplies {_widths(_kind(operand), profile)}"
            )
    return None


def _kind(operand: Operand) -> str:
    return "integer" if operand.format.startswith(_INTEGER_PREFIXES) else "float"


def place(event: GemmEvent) -> str:
    """Where a GEMM ran, for messages."""
    return f"layer {event.layer!r}, role {event.role}"


def _widths(kind: str, profile: HardwareProfile) -> str:
    """The widths of a kind in words: "integers of at most 8 bits (modes: 4, 8)"."""
    widths = profile.array.widths(kind)
    if kind == "float":
        return f"floats of at most {max([VECTOR_ELEMENT_BITS, *widths])} bits"
    return f"integers of at most {widths[-1]} bits (modes: {', '.join(map(str, widths))})"
