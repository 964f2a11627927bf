"""Which mode of the array a GEMM runs in, or the vector unit, and in how many bits its operands are stored.

| operands                          | run in                                                             |
|-----------------------------------|--------------------------------------------------------------------|
| two integers                      | the narrowest integer mode that holds both                         |
| two floats                        | the narrowest float mode that holds both, else the vector unit     |
| a power of two with an integer or | the narrowest log mode that holds both, else a float mode, else    |
| with another power of two         | the vector unit                                                    |
| a float with one of these         | the narrowest float mode that holds both, else the vector unit     |

A float mode holds an integer or a power of two of b bits if it has 2b bits or more: then its significand (4 bits of
FP8 E4M3, 8 of BF16) has the integer's b - 1 bits of magnitude, and its exponent (4 bits of E4M3) those of the power.
Elements of blocks are multiplied as what they are; their scales are not the multiplier's.

An operand narrower than every mode of its kind is stored, and runs, in the narrowest one that holds it: a machine
without a 4-bit mode has no 4-bit words either. An operand that no mode of its own kind holds is stored in the width
that it runs in. The vector unit's elements are 32 bits wide.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from hw_models.profile import HardwareProfile
from hw_models.schema.array import Kind, Mode
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import (
    BlockFormat,
    ExponentFormat,
    FixedFormat,
    Format,
    IntFormat,
    LogFormat,
)
from lowbit_sim.trace import GemmEvent, Operand

#: Width of the vector unit's elements: `energy.vector_operation_pj` is of a 32-bit element.
VECTOR_ELEMENT_BITS = 32

#: What kind of number a format is whose name is in no catalogue, by how the name begins: LUQ's powers of two, and
#: other people's integers. Any other table of values is decoded into floats.
_PREFIXES: dict[Kind, tuple[str, ...]] = {"integer": ("int", "uint", "fixed"), "log": ("luq", "log")}

#: The modes of an event: of the stored left and right operand, and of the GEMM. None for the vector unit.
Modes = tuple[Mode, Mode, Mode] | None


class UnsupportedOperandError(ValueError):
    """A GEMM with operands that the machine can't multiply, or that its memories can't hold."""


def gemm_modes(event: GemmEvent, profile: HardwareProfile) -> Modes:
    """The modes in which the left and the right operand are stored, and the mode in which the GEMM runs.

    None for a GEMM that the array has no mode for and the vector unit has: see the module.

    Raises:
        UnsupportedOperandError: Two integers of which one is wider than every integer mode, or an operand wider than
            the float modes and the vector unit.
    """
    found = _modes(event.lhs, event.rhs, profile.array.modes)
    if isinstance(found, str):
        side = "lhs" if found == event.lhs.format else "rhs"
        operand: Operand = getattr(event, side)
        raise UnsupportedOperandError(
            f"{place(event)}: {side} is {operand.format} ({operand.bits} bits), but "
            f"{profile.machine.name} multiplies {_widths(operand_kind(operand.format), profile)}"
        )
    return found


def _modes(lhs: Operand, rhs: Operand, modes: Iterable[Mode]) -> Modes | str:
    """The modes, or the format of an operand that is too wide."""
    kinds: set[Kind] = {operand_kind(lhs.format), operand_kind(rhs.format)}
    for kind in _kinds_of_modes(kinds):
        run = _narrowest(modes, kind, max(_bits_in(kind, lhs), _bits_in(kind, rhs)))
        if run is not None:
            return _stored(lhs, modes, run), _stored(rhs, modes, run), run
    if kinds == {"integer"}:
        widest = max((m.operand_bits for m in modes if m.kind == "integer"), default=0)
        return lhs.format if lhs.bits > widest else rhs.format
    for operand in (lhs, rhs):
        if _bits_in("float", operand) > VECTOR_ELEMENT_BITS:
            return operand.format
    return None


def _kinds_of_modes(operands: set[Kind]) -> tuple[Kind, ...]:
    """The kinds of modes that a pair may run in, the best first."""
    if operands == {"integer"}:
        return ("integer",)
    return ("float",) if "float" in operands else ("log", "float")


def _bits_in(kind: Kind, operand: Operand) -> int:
    """The width that a mode of a kind needs to hold an operand."""
    exact_in_float = kind == "float" and operand_kind(operand.format) != "float"
    return 2 * operand.bits if exact_in_float else operand.bits


def _narrowest(modes: Iterable[Mode], kind: Kind, bits: int) -> Mode | None:
    fitting = [m for m in modes if m.kind == kind and m.operand_bits >= bits]
    return min(fitting, key=lambda m: m.operand_bits, default=None)


def _stored(operand: Operand, modes: Iterable[Mode], run: Mode) -> Mode:
    own = _narrowest(modes, operand_kind(operand.format), operand.bits)
    return run if own is None or own.operand_bits > run.operand_bits else own


@lru_cache(maxsize=1 << 12)
def operand_kind(name: str) -> Kind:
    """What kind of number the elements of a format are."""
    try:
        return _kind(parse_format(name))
    except ValueError:  # not one of the catalogue's: a float, unless its name says more
        kinds: list[Kind] = [kind for kind, words in _PREFIXES.items() if name.startswith(words)]
        return kinds[0] if kinds else "float"


def _kind(fmt: Format) -> Kind:
    if isinstance(fmt, BlockFormat):
        return _kind(fmt.element)
    if isinstance(fmt, IntFormat | FixedFormat):
        return "integer"
    return "log" if isinstance(fmt, LogFormat | ExponentFormat) else "float"


def place(event: GemmEvent) -> str:
    """Where a GEMM ran, for messages; the role alone where the layer has no name."""
    return f"layer {event.layer!r}, role {event.role}" if event.layer else f"role {event.role}"


def _widths(kind: Literal["integer", "float", "log"], profile: HardwareProfile) -> str:
    """The widths of a kind in words: "integers of at most 8 bits (modes: 4, 8)"."""
    if kind == "float":
        return f"floats of at most {max([VECTOR_ELEMENT_BITS, *profile.array.widths('float')])} bits"
    widths = profile.array.widths(kind)
    words = {"integer": "integers", "log": "powers of two"}[kind]
    if not widths:
        return f"no {words}"
    return f"{words} of at most {widths[-1]} bits (modes: {', '.join(map(str, widths))})"
