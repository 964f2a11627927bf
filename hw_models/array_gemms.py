"""The GEMMs by which a machine's array is looked at: those of its own numerics, and one for each mode beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hw_models.operands import UnsupportedOperandError, gemm_modes
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from hw_models.spec_event import spec_event
from lowbit_sim.trace import GemmEvent, Operand, Role

ROLES: tuple[Role, ...] = ("output", "grad_input", "grad_weight")

#: A format of each kind; the width that counts is the operand's own.
_FORMATS = {"integer": "int8", "float": "fp32", "log": "log4_radix2"}


@dataclass(frozen=True, kw_only=True)
class ArrayGemm:
    """A GEMM that the array runs.

    Attributes:
        event: Its formats and accumulators; its sizes don't count.
        words: The product in words.
        lhs_bits: Bits of an element of the left operand as the memories hold it.
        rhs_bits: Of the right operand.
        mode: The mode in which it runs.
    """

    event: GemmEvent
    words: str
    lhs_bits: int
    rhs_bits: int
    mode: Mode


def own_gemms(profile: HardwareProfile) -> Iterator[ArrayGemm]:
    """The GEMMs of the machine's own numerics that its array runs, but those that are alike only once."""
    seen: set[tuple[object, ...]] = set()
    for role in ROLES:
        event = spec_event(profile.gemm_spec(role), role, 1, 1, 1)
        try:
            modes = gemm_modes(event, profile)
        except UnsupportedOperandError:
            continue
        alike = (event.lhs, event.rhs, event.outer_bits)
        if modes is None or alike in seen:
            continue
        seen.add(alike)
        lhs, rhs, mode = modes
        words = f"{event.lhs.format} x {event.rhs.format}"
        yield ArrayGemm(
            event=event, words=words, lhs_bits=lhs.operand_bits, rhs_bits=rhs.operand_bits, mode=mode
        )


def array_gemms(profile: HardwareProfile) -> Iterator[ArrayGemm]:
    """The machine's own GEMMs, and one for each mode that none of these runs in, with 32-bit accumulators."""
    own = list(own_gemms(profile))
    yield from own
    for mode in profile.array.modes:
        if all(gemm.mode != mode for gemm in own):
            bits = mode.operand_bits
            words = f"{bits}-bit {mode.kind} mode"
            yield ArrayGemm(event=_event(mode), words=words, lhs_bits=bits, rhs_bits=bits, mode=mode)


def _event(mode: Mode) -> GemmEvent:
    operand = Operand(format=_FORMATS[mode.kind], bits=mode.operand_bits)
    return GemmEvent(
        role="output",
        M=1,
        N=1,
        K=1,
        lhs=operand,
        rhs=operand,
        accumulator_bits=32,
        outer_bits=32,
        overflow="float" if mode.kind == "float" else "wrap",
    )
