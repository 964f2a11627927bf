"""Where what ran differs from what the machine does.

A trace may come from any arithmetic. It is priced at the widths that ran; a note says where the machine would
have computed something else, and where its array does not run a GEMM as one would expect.
"""

from __future__ import annotations

from collections.abc import Iterator

from hw_models.footprint import Footprint
from hw_models.operands import Modes, operand_kind, place
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from hw_models.spec_event import spec_event
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import GemmEvent, Operand, VectorEvent

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

_WORDS = {"integer": "integers", "float": "floats", "log": "powers of two"}


def gemm_notes(event: GemmEvent, profile: HardwareProfile, modes: Modes) -> Iterator[str]:
    """The differences between what a GEMM ran with and what the machine has.

    Args:
        event: The GEMM.
        profile: The machine.
        modes: What `operands.gemm_modes` gives for them.

    Raises:
        ValueError: An unknown overflow.
    """
    if event.overflow not in _ENDINGS:
        raise ValueError(f"{place(event)}: {unknown('accumulator overflow', event.overflow, _ENDINGS)}")
    if modes is None:
        yield _vector_unit_note(event, profile)
        return
    if event.role in GEMM_ROLES:
        yield from _numerics_notes(event, profile)
    lhs, rhs, mode = modes
    for operand, stored in ((event.lhs, lhs), (event.rhs, rhs)):
        yield from _storage_notes(operand, stored, mode)
    if adds_floats_as_integers(event, mode):
        yield (
            f"{event.role}: sums in a {event.accumulator_bits}-bit floating-point accumulator run in the "
            f"{mode.operand_bits}-bit integer mode: their additions are priced as integer ones of that width"
        )
    yield from _zeros_notes(event, profile)


def adds_floats_as_integers(event: GemmEvent, mode: Mode) -> bool:
    """Whether a GEMM asks for a floating-point accumulator in a mode whose adder is an integer one."""
    return event.overflow == "float" and mode.kind == "integer"


def vector_notes(event: VectorEvent, profile: HardwareProfile) -> Iterator[str]:
    """The differences between what vector work needed and what the machine has."""
    if event.random_bits and not profile.vector.random_bits_per_cycle:
        yield "random bits are computed by the vector unit: the machine has no unit for them"
    if event.copies:
        yield (
            "overlapping windows of convolutions are quantised one by one: a block of one window is none of the next "
            "one's, or copies of an element draw random bits of their own"
        )


def footprint_notes(footprint: Footprint, profile: HardwareProfile) -> Iterator[str]:
    """Whether what training keeps fits the memory outside."""
    capacity = profile.memory.dram.capacity_bytes
    if capacity is not None and footprint.total > capacity:
        yield (
            f"a training step keeps {footprint.total:,} bytes (of these {footprint.activations:,} of activations), "
            f"more than the {capacity:,} of memory.dram: what does not fit is priced as if it did"
        )


def _vector_unit_note(event: GemmEvent, profile: HardwareProfile) -> str:
    formats = list(dict.fromkeys((event.lhs.format, event.rhs.format)))
    kinds = [operand_kind(name) for name in formats]
    what = "native float GEMMs run" if formats == ["fp32"] else f"GEMMs of {' and '.join(formats)} run"
    if kinds.count("float") == len(kinds):
        note = f"{what} on the vector unit: the array has no float mode"
        bits = max(event.lhs.bits, event.rhs.bits)
        return f"{note} of {bits} bits or more" if profile.array.widths("float") else note
    logs = "" if "float" in kinds else "no log mode and "
    return f"{what} on the vector unit: the array has {logs}no float mode that holds them exactly"


def _numerics_notes(event: GemmEvent, profile: HardwareProfile) -> Iterator[str]:
    machine = spec_event(profile.gemm_spec(event.role), event.role, 0, 0, 0)
    for side, tensor in zip(("lhs", "rhs"), _TENSORS[event.role], strict=True):
        ran, expected = getattr(event, side).format, getattr(machine, side).format
        if ran != expected:
            yield f"{event.role}: {tensor} ran as {ran}; the machine has {expected}"
    ran, expected = _accumulator(event), _accumulator(machine)
    # Other formats ask for another kind of accumulator, and have a note already.
    same_kind = (event.overflow == "float") == (machine.overflow == "float")
    same_formats = (event.lhs.format, event.rhs.format) == (machine.lhs.format, machine.rhs.format)
    if ran != expected and (same_kind or same_formats):
        yield f"{event.role}: ran with {ran}; the machine has {expected}"


def _accumulator(event: GemmEvent) -> str:
    """In words: "a 16-bit saturating accumulator in chunks of 64 into 32 bits"."""
    inner = f"a {event.accumulator_bits}-bit {_ENDINGS[event.overflow]} accumulator"
    if event.chunk:
        return f"{inner} in chunks of {event.chunk} into {event.outer_bits} bits"
    if event.outer_bits != event.accumulator_bits:
        return f"{inner} whose one sum passes to an outer accumulator of {event.outer_bits} bits"
    return inner


def _storage_notes(operand: Operand, stored: Mode, mode: Mode) -> Iterator[str]:
    if operand.bits < stored.operand_bits:
        yield (
            f"{operand.bits}-bit operands run and are stored in {stored.operand_bits} bits: "
            "the machine has no narrower mode"
        )
    kind = operand_kind(operand.format)
    # A log mode takes integers as they are.
    if mode.kind != kind and (mode.kind, kind) != ("log", "integer"):
        yield f"{_WORDS[kind]} ({operand.format}) run in the {mode.operand_bits}-bit {mode.kind} mode"


def _zeros_notes(event: GemmEvent, profile: HardwareProfile) -> Iterator[str]:
    conv = event.conv
    if conv is None or event.role != "grad_input" or conv.stride == (1, 1):
        return
    if profile.array.skips_zeros:
        yield "grad_input of strided convolutions: the array skips the zeros that the stride inserts"
    else:
        yield (
            "grad_input of strided convolutions: the zeros that the stride inserts are multiplied too; an array "
            "with skips_zeros would not"
        )
