"""Which vector lanes hold a MAC unit's accumulators, and under which rule of `tile_ir` they add.

An accumulator of b bits fits a lane of L >= b bits. Shifted left by L - b, its range is the lane's, so that the
processor's own saturating or wrapping addition is the accumulator's, as long as every product fits b bits too:

    acc 2^(L-b) + p 2^(L-b)  saturates at 2^(L-1) - 1  exactly where  acc + p > 2^(b-1) - 1

(what saturation leaves in the L - b low bits is less than one unit, so later additions overflow where they should,
and the shift back drops it). Elsewhere the total must fit the lane and is then clipped, or folded to its low bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lowbit_sim.arith.bounds import MAX_OPERAND, dtype_magnitude, magnitude
from lowbit_sim.arith.mac import MacUnit, accumulator_range

#: Overflow rules of a lane; `tile_ir` has their instructions.
SATURATE, WRAP, CLIP, FOLD = "saturate", "wrap", "clip", "fold"
RULES = (SATURATE, WRAP, CLIP, FOLD)

#: Rows of a tile of accumulators, and vector registers side by side in each.
ROWS, VECTORS = 8, 2

#: Steps of k between two visits to a tile's memory: a panel of B of so many rows fits the first-level cache.
DEPTH = 256

#: Bits of a vector register; narrower ones are joined.
REGISTER_BITS = 512

#: Widest accumulator with room in an int64 lane for a sum that is yet to be wrapped or clipped. A wider one
#: can't overflow while K times the largest product stays below 2^61, so it is run at this width.
WIDEST = 62


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """How a MAC unit's accumulators are held.

    Attributes:
        width: Bits of an inner accumulator's lane: 16, 32 or 64.
        rule: Its overflow rule.
        shift: Bits by which an inner accumulator is shifted left.
        outer_width: Bits of an outer accumulator's lane: 32 or 64.
    """

    width: int
    rule: str
    shift: int
    outer_width: int


def columns_of_tile(lane: int) -> int:
    """Columns of a tile of lanes of so many bits."""
    return VECTORS * (REGISTER_BITS // lane)


def largest_product(mac: MacUnit, a: Tensor, b: Tensor) -> int:
    """An upper bound of |a_ik b_kj|; the operands are read only where their dtypes leave the lanes wide."""
    bound = min(dtype_magnitude(a), MAX_OPERAND) * min(dtype_magnitude(b), MAX_OPERAND)
    if bound << max(16 - mac.accumulator_bits, 0) < 1 << 15 or mac.accumulator_bits > 32:
        return bound
    return min(bound, magnitude(a) * magnitude(b))


def choose_lanes(mac: MacUnit, reduction: int, product: int) -> Lanes:
    """The narrowest lanes that hold the sums of exact products, added one by one.

    Args:
        mac: The MAC unit.
        reduction: Products of a result, at least 1.
        product: An upper bound of a product's magnitude; with 64-bit lanes, `reduction` of them stay below 2^61.
    """
    bits = min(mac.accumulator_bits, WIDEST)
    for width in (16, 32, 64):
        rule = (
            _rule(mac.overflow, bits, width, product)
            if bits <= width and product < 1 << (width - 1)
            else None
        )
        if rule:
            shift = width - bits if rule in (SATURATE, WRAP) else 0
            return Lanes(width=width, rule=rule, shift=shift, outer_width=_outer_width(mac, reduction, width))
    raise ValueError(f"no lane holds a sum of a {bits}-bit accumulator and a product of {product}")


def _rule(overflow: str, bits: int, width: int, product: int) -> str | None:
    """The rule with the fewest instructions, or None if the lane is too narrow."""
    room = 1 << (width - 1)
    fits_shifted = product << (width - bits) < room
    holds_total = (1 << (bits - 1)) + product <= room - 1
    if overflow == "wrap":
        return WRAP if fits_shifted else FOLD if holds_total else None
    if overflow == "saturate" and fits_shifted and (width == 16 or not holds_total):
        return SATURATE
    return CLIP if holds_total or width == 16 else None


def _outer_width(mac: MacUnit, reduction: int, width: int) -> int:
    """The outer lane's bits; a sole chunk is added to zero."""
    held = 1 << (min(mac.accumulator_bits, WIDEST) - 1)
    if mac.chunks(reduction) > 1:
        held += 1 << (min(mac.result_bits, WIDEST) - 1)
    return 32 if width < 64 and held <= 1 << 31 and mac.result_bits <= 32 else 64


def mode(rule: str, counting: bool) -> int:
    """The number by which a compiled kernel knows a rule, with or without a count of overflows."""
    return 2 * RULES.index(rule) + counting


def limits(bits: int, overflow: str, lane: int) -> tuple[int, int, int]:
    """(low, high, fold) of an accumulator in a lane: its range, and the bits that folding shifts out."""
    bits = min(bits, WIDEST)
    return *accumulator_range(bits, overflow), lane - bits
