"""Where the numerics that ran differ from the machine's own.

A trace may come from any arithmetic. It is priced at the widths that ran; a note says where the machine would
have computed something else.
"""

from __future__ import annotations

from hw_models.operands import gemm_modes, place
from hw_models.profile import Arithmetic, HardwareProfile
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import GemmEvent, VectorEvent

#: The tensors on the left and on the right of each GEMM of a layer.
_TENSORS = {
    "output": ("input", "weight"),
    "grad_input": ("grad_output", "weight"),
    "grad_weight": ("grad_output", "input"),
}

#: What kind of accumulator it is, in words: what an integer one does at its limit, or that it is none.
_ENDINGS = {
    "wrap": "wrapping",
    "saturate": "saturating",
    "saturate_symmetric": "symmetrically saturating",
    "float": "floating-point",
}


def gemm_notes(event: GemmEvent, profile: HardwareProfile) -> list[str]:
    """The differences between what a GEMM ran with and what the machine has.

    Raises:
        UnsupportedOperandError: The machine can't multiply the operands.
        ValueError: An unknown overflow.
    """
    modes = gemm_modes(event, profile)
    if modes is None:
        return [_vector_unit_note(event, profile)]
    lhs, rhs, mode = modes
    notes = _format_notes(event, profile.arithmetic)
    if mode.kind == "integer":
        notes += _accumulator_notes(event, profile.arithmetic)
    for operand, stored in ((event.lhs, lhs), (event.rhs, rhs)):
        if operand.bits < stored.operand_bits:
            notes.append(
                f"{operand.bits}-bit operands run and are stored in {stored.operand_bits} bits: "
                "the machine has no narrower mode"
            )
    return notes


def vector_notes(event: VectorEvent, profile: HardwareProfile) -> list[str]:
    """The differences between what vector work needed and what the machine has."""
    if event.random_bits and not profile.vector.random_bits_per_cycle:
        return ["random bits are computed by the vector unit: the machine has no unit for them"]
    return []


def _vector_unit_note(event: GemmEvent, profile: HardwareProfile) -> str:
    formats = list(dict.fromkeys((event.lhs.format, event.rhs.format)))
    what = "native float GEMMs run" if formats == ["fp32"] else f"GEMMs of {' and '.join(formats)} run"
    note = f"{what} on the vector unit: the array has no float mode"
    has_narrower = bool(profile.array.widths("float"))
    return f"{note} of {max(event.lhs.bits, event.rhs.bits)} bits or more" if has_narrower else note


def _format_notes(event: GemmEvent, arithmetic: Arithmetic) -> list[str]:
    notes = []
    for tensor, operand in zip(_TENSORS.get(event.role, ()), (event.lhs, event.rhs), strict=False):
        expected = getattr(arithmetic, f"{tensor}_format")
        if operand.format != expected:
            notes.append(f"{event.role}: {tensor} ran as {operand.format}; the machine has {expected}")
    return notes


def _accumulator_notes(event: GemmEvent, arithmetic: Arithmetic) -> list[str]:
    if event.overflow not in _ENDINGS:
        raise ValueError(f"{place(event)}: {unknown('accumulator overflow', event.overflow, _ENDINGS)}")
    ran = _accumulator(event.accumulator_bits, event.overflow, event.chunk, event.outer_bits)
    machine = _accumulator(
        arithmetic.accumulator_bits, arithmetic.overflow, arithmetic.chunk, arithmetic.outer_bits
    )
    return [f"{event.role}: ran with {ran}; the machine has {machine}"] if ran != machine else []


def _accumulator(bits: int, overflow: str, chunk: int, outer_bits: int) -> str:
    """In words: "a 16-bit saturating accumulator in chunks of 64 into 32 bits"."""
    inner = f"a {bits}-bit {_ENDINGS[overflow]} accumulator"
    if chunk:
        return f"{inner} in chunks of {chunk} into {outer_bits} bits"
    if outer_bits != bits:
        return f"{inner} whose one sum passes to an outer accumulator of {outer_bits} bits"
    return inner
