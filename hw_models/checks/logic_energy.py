"""Energies of logic that are far above what was published: femtojoules, say, written as picojoules.

Compared with Horowitz, "Computing's energy problem", ISSCC 2014, at 45 nm and 0.9 V, carried to the figure's width
(multipliers with its square, adders linearly, as `energy.by_width` does) and to its node and voltage:

    pJ at 45 nm     8 bits   32 bits          pJ at 45 nm     16 bits   32 bits
    multiply        0.2      3.1              float multiply  1.1       3.7
    add             0.03     0.1              float add       0.4       0.9
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from hw_models.checks.remark import Remark, in_words
from hw_models.energy import by_width
from hw_models.profile import HardwareProfile
from hw_models.schema.base import Figure
from hw_models.schema.energy import ByWidth

#: A figure above so many times the published one is suspicious.
TIMES = 100

_NODE_NM, _VOLTAGE_V = 45.0, 0.9


def _published(*points: tuple[int, float]) -> tuple[ByWidth, ...]:
    return tuple(ByWidth(bits=bits, pj=Figure(low=pj, nominal=pj, high=pj)) for bits, pj in points)


_INTEGER = {"multiply": _published((8, 0.2), (32, 3.1)), "add": _published((8, 0.03), (32, 0.1))}
_FLOAT = {"multiply_pj": _published((16, 1.1), (32, 3.7)), "add_pj": _published((16, 0.4), (32, 0.9))}
_POWERS: dict[str, Literal[1, 2]] = {"multiply": 2, "add": 1, "multiply_pj": 2, "add_pj": 1}


def check_logic_energy(profile: HardwareProfile) -> Iterator[Remark]:
    """Multiplies and additions that take more than a hundred times the published energy."""
    energy, machine = profile.energy, profile.machine
    scale = _scale(energy.node_nm, energy.voltage_v)
    for key, published in _INTEGER.items():
        entries: tuple[ByWidth, ...] = getattr(energy, key)
        for index, entry in enumerate(entries):
            location = ("energy", key, index, "pj")
            yield from _far_above(location, entry.pj, entry.bits, published, _POWERS[key], scale)
    scale = _scale(machine.node_nm, machine.voltage_v)
    for index, mode in enumerate(profile.array.modes):
        for key, published in _FLOAT.items():
            figure: Figure | None = getattr(mode, key)
            if figure is not None:
                location = ("array", "modes", index, key)
                yield from _far_above(location, figure, mode.operand_bits, published, _POWERS[key], scale)


def _scale(node_nm: float, voltage_v: float) -> float:
    return node_nm / _NODE_NM * (voltage_v / _VOLTAGE_V) ** 2


def _far_above(
    location: tuple[str | int, ...],
    figure: Figure,
    bits: int,
    published: Sequence[ByWidth],
    power: Literal[1, 2],
    scale: float,
) -> Iterator[Remark]:
    usual = by_width(published, bits, power=power).nominal_pj * scale
    if figure.nominal > TIMES * usual:
        yield Remark(
            location=location,
            message=f"{in_words(figure.nominal)} pJ at {bits} bits is more than {TIMES} times the "
            f"{in_words(usual)} pJ that Horowitz (ISSCC 2014) gives, carried to this width, node and "
            "voltage: is it in fJ?",
        )
