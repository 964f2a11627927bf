"""Rounding modes and what happens beyond the largest value.

The modes carry IEEE 754-2019 section 4.3's meanings; `stochastic` is what hardware does with a linear
feedback register: keep `random_bits` fraction bits, add that many random bits, take the carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

Overflow = Literal["saturate", "wrap", "infinity"]


class RoundingMode(StrEnum):
    """The rounding modes. Each has one `case` in `reference.round_to_integer` and one in every kernel's rounding."""

    #: roundTiesToEven
    NEAREST_EVEN = "nearest_even"
    #: roundTiesToAway
    NEAREST_AWAY = "nearest_away"
    #: roundTowardZero
    TOWARD_ZERO = "toward_zero"
    #: roundTowardNegative
    DOWN = "down"
    #: roundTowardPositive
    UP = "up"
    #: floor(y) + [floor(frac(y) 2^r) + R >= 2^r] with an r-bit random integer R
    STOCHASTIC = "stochastic"


#: The number by which compiled kernels know a mode.
MODE_CODES: dict[str, int] = {mode.value: code for code, mode in enumerate(RoundingMode)}

MAX_RANDOM_BITS = 32


@dataclass(frozen=True)
class Rounding:
    """How a value becomes a member of a format.

    Args:
        mode: A `RoundingMode` or its name.
        overflow: "saturate" (clip to the largest finite value), "wrap" (keep the low bits; integer
            formats over their full range only) or "infinity" (float formats only: the format's infinity,
            or its NaN where it has none, as the OCP FP8 specification's non-saturating mode).
        random_bits: Bits drawn for each element, 1 to 32; given for "stochastic" and only there.

    Raises:
        ValueError: An unknown mode or overflow, or random bits that don't fit the mode.
    """

    mode: str = RoundingMode.NEAREST_EVEN
    overflow: Overflow = "saturate"
    random_bits: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODE_CODES:
            raise ValueError(unknown("rounding mode", self.mode, MODE_CODES))
        if self.overflow not in get_args(Overflow):
            raise ValueError(unknown("overflow", self.overflow, get_args(Overflow)))
        if self.is_stochastic and not is_whole(self.random_bits, 1, MAX_RANDOM_BITS):
            raise ValueError(
                f"stochastic rounding needs random_bits from 1 to {MAX_RANDOM_BITS}, got {self.random_bits}"
            )
        if not self.is_stochastic and self.random_bits:
            raise ValueError(
                f"rounding mode {self.mode!r} draws no random bits, got random_bits={self.random_bits}"
            )

    @property
    def is_stochastic(self) -> bool:
        """Whether the result depends on random bits."""
        return self.mode == RoundingMode.STOCHASTIC
