"""When floating-point accumulators may be computed in float32 lanes, and how; the proofs are in `lanes`.

What is needed of the operands is read off one pass over each (`extent`): their largest magnitude, the exponent of the
last place in use and the number of significant bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lowbit_sim.arith.bounds import MAX_OPERAND
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import draw_width
from lowbit_sim.numerics.reference import overflow_code
from lowbit_sim.numerics.rounding import Rounding, RoundingMode

#: (h, d, even) of `float_kernel` for positive numbers, then for negative ones.
_NEAREST_EVEN, _NEAREST_AWAY, _TO_ZERO, _FROM_ZERO = (1, 1, 1), (1, 0, 0), (0, 0, 0), (2, 1, 0)
MODES: dict[str, tuple[int, ...]] = {
    RoundingMode.NEAREST_EVEN: _NEAREST_EVEN + _NEAREST_EVEN,
    RoundingMode.NEAREST_AWAY: _NEAREST_AWAY + _NEAREST_AWAY,
    RoundingMode.TOWARD_ZERO: _TO_ZERO + _TO_ZERO,
    RoundingMode.DOWN: _TO_ZERO + _FROM_ZERO,
    RoundingMode.UP: _FROM_ZERO + _TO_ZERO,
    # Only for the exact zeros, which are as to nearest.
    RoundingMode.STOCHASTIC: _NEAREST_EVEN + _NEAREST_EVEN,
}

#: How lanes round sums; see `lanes`. Those called NORMAL serve where every sum below the format's smallest normal
#: number is exact.
DIRECT, ON_GRID, ON_GRID_ODD, BY_MODE, RANDOMLY = range(5)
NORMAL_NEAREST, NORMAL_NEAREST_ODD, NORMAL_CUT, NORMAL_AWAY = range(5, 9)
NORMAL_DOWN, NORMAL_UP, NORMAL_RANDOMLY = range(9, 12)

#: What a tile looks for beside the sums: nothing; sums beyond the largest value; these and swamped additions, which
#: it counts.
NOTHING, OVERFLOWS, COUNTS = range(3)

_NORMAL_KINDS: dict[str, int] = {
    RoundingMode.NEAREST_AWAY: NORMAL_AWAY,
    RoundingMode.TOWARD_ZERO: NORMAL_CUT,
    RoundingMode.DOWN: NORMAL_DOWN,
    RoundingMode.UP: NORMAL_UP,
    RoundingMode.STOCHASTIC: NORMAL_RANDOMLY,
}

#: Words of a format for `lanes_tile`, int32; floats by their bits. BEYOND has two, MODE six.
LEAST, MANTISSA_BITS, LARGEST, BEYOND, MODE, DOWN, RANDOM_BITS, DRAWS_LOG = 0, 1, 2, 3, 5, 11, 12, 13
PARAMETERS = 14

#: Significant bits of a float32.
_BITS = 24

#: The last place of zeros.
_NO_PLACE = 127

#: Products and formats below this, and sums below the second, leave room for the magic numbers of `lanes`.
_LARGEST = 2.0**100
_LARGEST_SUM = 2.0**103

#: Most of m + 1 + r: sums are rounded to odd or cut off at 24 bits.
_MOST_BITS = 22


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Where the bits of a matrix lie.

    Attributes:
        largest: The largest magnitude; may be infinite or NaN.
        last: All are multiples of 2^last.
        bits: The most significant bits of an element.
    """

    largest: float
    last: int
    bits: int

    @property
    def whole(self) -> bool:
        """Whether all are whole multiples, up to `MAX_OPERAND`, of a power of two."""
        return self.largest <= MAX_OPERAND * 2.0**self.last


def extent(x: Tensor) -> Extent:
    """The extent of float32 numbers on the CPU."""
    from lowbit_sim.arith.extent_kernel import PIECE, extents
    from lowbit_sim.numerics.threads import match_torch_threads

    if not x.numel():
        return Extent(largest=0.0, last=_NO_PLACE, bits=1)
    # Any order will do: a transposed matrix is read as it lies.
    bits = (x if x.is_contiguous() else x.t() if x.t().is_contiguous() else x.contiguous()).numpy()
    found = np.empty((-(-bits.size // PIECE), 3), dtype=np.int32)
    match_torch_threads(len(found))
    extents(bits.reshape(-1).view(np.int32), found)
    largest = float(found[:, 0].max().view(np.float32))
    last = int(found[:, 1].min()) - 150 if largest != 0.0 else _NO_PLACE
    return Extent(largest=largest, last=last, bits=int(found[:, 2].max()))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the lanes add.

    Attributes:
        inner: Kind of the inner accumulator's additions; see `lanes_tile`.
        outer: Kind of the outer accumulator's.
        may_overflow: Whether a sum may leave a format, so that each is checked.
        why: In words.
    """

    inner: int
    outer: int
    may_overflow: bool
    why: str


def is_float32(fmt: FloatFormat) -> bool:
    """Whether a format has float32's values."""
    return (fmt.exponent_bits, fmt.mantissa_bits, fmt.bias) == (8, 23, 127) and fmt.has_subnormals


def beyond(fmt: FloatFormat, rounding: Rounding) -> tuple[float, float]:
    """What stands beyond the largest value: the magnitudes for positive and for negative numbers."""
    code = overflow_code(fmt, rounding)
    value = fmt.max_value if code == fmt.max_code else math.inf if code == fmt.infinity_code else math.nan
    toward_zero = [MODES[rounding.mode][i] == 0 and not rounding.is_stochastic for i in (0, 3)]
    positive, negative = (fmt.max_value if cut else value for cut in toward_zero)
    return positive, negative


def growth(terms: int, largest: float, fmt: FloatFormat, rounding: Rounding) -> float:
    """A bound of every partial sum of so many terms, roundings included.

    * Toward zero no rounding enlarges a sum.
    * Else each adds at most a factor of 1 + u, u = 2^-m, or, of small numbers, a spacing: (1 + u)^n <= e^(n u).
    * To nearest, and with r random bits (r = 1 for nearest), sums stop at X = 2^(m + r + 1) T, T a power of two that
      no term exceeds: above X the spacing is 2^(r + 1) T, so that no term reaches the 2^-r of it that may move a sum
      up, and below X a sum has X - 2^r T at most, which a term leaves below X, itself a number of the format.
    """
    if rounding.mode == RoundingMode.TOWARD_ZERO:
        return terms * largest
    spacing = 2.0 ** (fmt.min_exponent - fmt.mantissa_bits)
    share = terms * 2.0**-fmt.mantissa_bits
    bound = terms * (largest + spacing) * math.exp(share) if share < 700 else math.inf
    if rounding.mode in (RoundingMode.UP, RoundingMode.DOWN):
        return bound
    power = 2.0 ** math.ceil(math.log2(max(largest, spacing)))
    return min(bound, power * 2.0 ** (fmt.mantissa_bits + max(1, rounding.random_bits) + 1))


def plan(mac: FloatMacUnit, a: Extent, b: Extent, reduction: int) -> Plan | str:
    """How float32 lanes compute a unit's sums, or why they can't."""
    reason = _why_not(mac, a, b)
    if reason:
        return reason
    product, last = a.largest * b.largest, a.last + b.last
    # A power of two has one bit, which widens no product.
    bits = a.bits + b.bits - (1 in (a.bits, b.bits))
    if bits > _BITS or last < -149:
        return f"products of up to {bits} bits, the last one worth 2^{last}, are not float32 values"
    if is_float32(mac.accumulator) and is_float32(mac.result_format):
        return _plan_float32(mac, product, reduction)
    length = min(mac.chunk_length(reduction), max(reduction, 1))
    inner_bound = growth(length, product, mac.accumulator, mac.rounding)
    chunks = -(-reduction // length)
    outer_bound = (
        growth(chunks, inner_bound, mac.result_format, mac.rounding) if mac.has_outer else inner_bound
    )
    if product > _LARGEST:
        return f"products of up to {product:.4g} leave no room above"
    overflow = inner_bound > mac.accumulator.max_value or outer_bound > mac.result_format.max_value
    largest = max(mac.accumulator.max_value, mac.result_format.max_value) if overflow else outer_bound
    if largest > (_LARGEST if overflow else _LARGEST_SUM):
        return f"sums of up to {max(inner_bound, outer_bound):.4g} may leave float32"
    if overflow and any(
        math.isnan(x) for f in (mac.accumulator, mac.result_format) for x in beyond(f, mac.rounding)
    ):
        return "an overflow is a NaN"
    if (
        mac.has_outer
        and inner_bound > mac.accumulator.max_value
        and math.inf in beyond(mac.accumulator, mac.rounding)
    ):
        return "a chunk's sum may be infinite"
    inner = _kind(mac.accumulator, mac.rounding, bits, last)
    outer = _kind(mac.result_format, mac.rounding, mac.accumulator.mantissa_bits + 1, last)
    if isinstance(inner, str) or isinstance(outer, str):
        return inner if isinstance(inner, str) else str(outer)
    return Plan(inner=inner, outer=outer, may_overflow=overflow, why=_WHY)


_WHY = "float32 arithmetic, as every product is a float32"


def _plan_float32(mac: FloatMacUnit, product: float, reduction: int) -> Plan | str:
    """Fewer than 2^21 roundings, each by at most 2^-24 of the sum, enlarge it by less than a fifth."""
    if mac.rounding.mode != RoundingMode.NEAREST_EVEN:
        return "float32 sums in another mode than to nearest even need more bits"
    if reduction >= 1 << 20 or reduction * product > 2.0**126:
        return f"{reduction} products of up to {product:.4g} may leave float32"
    return Plan(inner=DIRECT, outer=DIRECT, may_overflow=False, why=_WHY)


def _why_not(mac: FloatMacUnit, a: Extent, b: Extent) -> str | None:
    if mac.kahan or mac.order == "tree" or mac.product is not None:
        return "float32 lanes add exact products in sequence"
    if not (math.isfinite(a.largest) and math.isfinite(b.largest)):
        return "an operand is not finite"
    return None


def _kind(fmt: FloatFormat, rounding: Rounding, term_bits: int, last: int) -> int | str:
    """How a term of so many bits is added in a format."""
    nearest = rounding.mode == RoundingMode.NEAREST_EVEN
    if is_float32(fmt):
        return DIRECT if nearest else "float32 sums in another mode than to nearest even need more bits"
    precision = fmt.mantissa_bits + 1
    if not fmt.has_subnormals or fmt.min_exponent < -126:
        return f"{fmt} has no subnormal numbers, or ones that are none of float32's"
    if precision + rounding.random_bits > _MOST_BITS:
        return f"{fmt} and random bits together need more than {_MOST_BITS} bits"
    normal = last >= fmt.min_exponent - fmt.mantissa_bits
    if nearest:
        once = term_bits <= precision <= 11
        if normal:
            return NORMAL_NEAREST if once else NORMAL_NEAREST_ODD
        return ON_GRID if once else ON_GRID_ODD
    if normal and (last >= -126 or rounding.mode not in (RoundingMode.DOWN, RoundingMode.UP)):
        return _NORMAL_KINDS[rounding.mode]
    if last < -126:
        return f"sums may be subnormal numbers of float32, in units of 2^{last}"
    return RANDOMLY if rounding.is_stochastic else BY_MODE


def parameters(fmt: FloatFormat, rounding: Rounding) -> list[int]:
    """The words of a format that `lanes_tile` reads."""

    def bits(x: float) -> int:
        return int(np.float32(x).view(np.int32))

    words = [bits(2.0**fmt.min_exponent), fmt.mantissa_bits, bits(fmt.max_value)]
    words += [bits(x) for x in beyond(fmt, rounding)]
    words += [*MODES[rounding.mode], -int(rounding.mode == RoundingMode.DOWN), rounding.random_bits]
    words += [(32 // draw_width(rounding.random_bits)).bit_length() - 1]
    assert len(words) == PARAMETERS
    return words
