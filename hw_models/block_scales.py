"""Scales that the elements of a block share (MX, NVFP4): what they take in memory, and what applying them takes.

    width of an element in memory = its own bits + scale bits / block        MXFP4 4 + 8/32, NVFP4 4 + 8/16

so that a block which ends short, at the edge of K or of a tile, counts with the share of the elements that it has.
Each operand's scale is applied to the sum of each block of each result. A power of two (E8M0) is added to an
exponent, any other scale is a factor of the sum: operations of an adder or a multiplier of the scale's width.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from hw_models.compute.work import ceil_div
from hw_models.energy import by_width, integer_add_energy, technology_scale
from hw_models.profile import HardwareProfile
from hw_models.ranges import NOTHING, EnergyRange
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import ExponentFormat
from lowbit_sim.trace import GemmEvent, Operand


def scale_share(operand: Operand) -> Fraction:
    """Bits of its block's scale for each element in memory; 0 without blocks."""
    return Fraction(_scale(operand.scale)[0], operand.block) if operand.block else Fraction(0)


def scaling_energy(event: GemmEvent, profile: HardwareProfile) -> tuple[EnergyRange, EnergyRange]:
    """Energy of the multiplications and of the additions that apply the scales of an event's blocks."""
    multiply = add = NOTHING
    for operand in (event.lhs, event.rhs):
        if not operand.block:
            continue
        bits, is_power = _scale(operand.scale)
        blocks = event.count * event.M * event.N * ceil_div(event.K, operand.block)
        if is_power:
            add += integer_add_energy(profile, bits).scaled(blocks)
        else:
            one = by_width(profile.energy.multiply, bits, power=2).scaled(technology_scale(profile))
            multiply += one.scaled(blocks)
    return multiply, add


@lru_cache(maxsize=1 << 8)
def _scale(name: str) -> tuple[int, bool]:
    """Width of a scale's format, and whether its values are powers of two."""
    fmt = parse_format(name)
    return fmt.bits, isinstance(fmt, ExponentFormat)
