"""The definition of requantisation: scales as integers, then one accumulator at a time, in Python integers.

`requant.py` returns the same codes for whole tensors.
"""

from __future__ import annotations

import math
from fractions import Fraction

from lowbit_sim.numerics.reference import float32, round_to_integer
from lowbit_sim.numerics.rounding import RoundingMode

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def shift_range(multiplier_bits: int) -> tuple[int, int]:
    """The exponents whose right shift, after the product, is by 1 to 62 bits."""
    return multiplier_bits - 1 - 62, multiplier_bits - 1 - 1


def quantize_multiplier(scale: float, bits: int = 32) -> tuple[int, int]:
    """A scale as (multiplier, shift) with scale ~ multiplier 2^(shift - bits + 1), as TFLite's QuantizeMultiplier.

    The multiplier is the scale's significand in [0.5, 1), in units of 2^(1 - bits), rounded to the nearest, ties away
    from zero. A scale too small for any shift becomes (0, 0): every code is the zero point.

    Args:
        scale: A number from 0 on, below 2^30 (for 16 bits 2^14).
        bits: Width of the multiplier with its sign bit, 32 or 16.

    Raises:
        ValueError: A scale that is negative, not finite or too large for any shift.
    """
    lowest, highest = shift_range(bits)
    if not 0 <= scale < math.inf:
        raise ValueError(f"a requantisation scale is finite and not negative, got {scale}")
    if scale == 0:
        return 0, 0
    significand, shift = math.frexp(scale)
    # Exact in double precision: the significand is scaled by a power of two, and adding one half to a number
    # below 2^32 keeps all its bits that matter to the floor.
    scaled = math.ldexp(significand, bits - 1)
    multiplier = math.floor(scaled) + (scaled - math.floor(scaled) >= 0.5)
    if multiplier == 1 << (bits - 1):
        multiplier, shift = multiplier >> 1, shift + 1
    if shift > highest:
        raise ValueError(f"a {bits}-bit multiplier takes scales below 2^{highest}, got {scale}")
    return (0, 0) if shift < lowest else (multiplier, shift)


def scaled_float(accumulator: int, scale: float) -> int | float:
    """round(fp32(fp32(accumulator) * scale)), ties to even; an infinity where the product overflows float32.

    Args:
        accumulator: Below 2^53 in magnitude.
        scale: A float32 value.
    """
    # The product of two float32 values is exact in double precision, so it is rounded once.
    product = float32(float32(float(accumulator)) * scale)
    if math.isinf(product):
        return product
    return round_to_integer(Fraction(product), RoundingMode.NEAREST_EVEN)


def doubling_high_product(a: int, b: int) -> int:
    """a b / 2^31 rounded to the nearest, ties up, saturated to 32 bits.

    gemmlowp's SaturatingRoundingDoublingHighMul, of Arm's instruction VQRDMULH. Only -2^31 squared saturates.
    """
    return min((a * b + (1 << 30)) >> 31, INT32_MAX)


def divide_by_power_of_two(x: int, exponent: int) -> int:
    """x / 2^exponent rounded to the nearest, ties away from zero: gemmlowp's RoundingDivideByPOT."""
    return round_to_integer(Fraction(x, 1 << exponent), RoundingMode.NEAREST_AWAY)


def scaled_twice(accumulator: int, multiplier: int, shift: int) -> int:
    """accumulator multiplier 2^(shift - 31), rounded after the product and again after the shift."""
    product = doubling_high_product(accumulator << max(shift, 0), multiplier)
    return divide_by_power_of_two(product, max(-shift, 0))


def scaled_once(accumulator: int, multiplier: int, right_shift: int) -> int:
    """accumulator multiplier / 2^right_shift rounded to the nearest, ties up; right_shift at least 1."""
    return (accumulator * multiplier + (1 << (right_shift - 1))) >> right_shift
