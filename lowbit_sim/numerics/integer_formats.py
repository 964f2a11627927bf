"""Integers and fixed point: a code is a whole number.

value = code (`IntFormat`), value = code * 2^-fraction_length (`FixedFormat`, the Q format of signal
processors and QPyTorch's `FixedPoint`).
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.whole import is_whole


@dataclass(frozen=True, kw_only=True)
class IntFormat:
    """Two's complement (or unsigned) integers.

    Args:
        bits: Width, 2 to 16.
        signed: Two's complement if true, else 0 .. 2^bits - 1.
        symmetric: Leave out the most negative code, so that the range is -qmax .. qmax, as is usual for
            operands of training GEMMs. Only for signed formats.

    Raises:
        ValueError: A width outside 2 to 16, or a symmetric unsigned format.
    """

    bits: int
    signed: bool = True
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not is_whole(self.bits, 2, 16):
            raise ValueError(f"an integer format has 2 to 16 bits, got bits={self.bits}")
        if self.symmetric and not self.signed:
            raise ValueError("an unsigned format can't be symmetric: pass symmetric=False")

    @property
    def qmin(self) -> int:
        """The smallest code."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def qmax(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def name(self) -> str:
        """The catalogue's name: int8 (symmetric), int8_full, uint8."""
        if not self.signed:
            return f"uint{self.bits}"
        return f"int{self.bits}" if self.symmetric else f"int{self.bits}_full"

    @property
    def max_value(self) -> float:
        """The largest value."""
        return float(self.qmax)

    @property
    def unit(self) -> float:
        """Every value is a whole number of these."""
        return 1.0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class FixedFormat:
    """Two's complement fixed point: `fixed<word_length,fraction_length>`.

    Args:
        word_length: Width of a code with its sign bit, 2 to 16.
        fraction_length: Bits behind the point; a value is code * 2^-fraction_length. May be negative, or larger
            than the word.
        symmetric: Leave out the most negative code.

    Raises:
        ValueError: A width outside 2 to 16, or values that float32 can't hold.
    """

    word_length: int
    fraction_length: int
    symmetric: bool = False

    def __post_init__(self) -> None:
        if not is_whole(self.word_length, 2, 16):
            raise ValueError(f"a fixed-point format has 2 to 16 bits, got word_length={self.word_length}")
        lowest = self.word_length - 1 - 127
        if not is_whole(self.fraction_length, lowest, 149):
            raise ValueError(
                f"fraction_length={self.fraction_length} puts values outside float32: with word_length="
                f"{self.word_length} it is a whole number from {lowest} to 149"
            )

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.word_length

    @property
    def signed(self) -> bool:
        """Always true: codes are two's complement."""
        return True

    @property
    def qmin(self) -> int:
        """The smallest code."""
        return -(1 << (self.word_length - 1)) + (1 if self.symmetric else 0)

    @property
    def qmax(self) -> int:
        """The largest code."""
        return (1 << (self.word_length - 1)) - 1

    @property
    def unit(self) -> float:
        """The value of code 1."""
        return 2.0**-self.fraction_length

    @property
    def max_value(self) -> float:
        """The largest value."""
        return self.qmax * self.unit

    @property
    def name(self) -> str:
        """The name that `parse_format` reads: fixed<8,6>, fixed<8,6,symmetric>."""
        return f"fixed<{self.word_length},{self.fraction_length}{',symmetric' if self.symmetric else ''}>"

    def __str__(self) -> str:
        return self.name
