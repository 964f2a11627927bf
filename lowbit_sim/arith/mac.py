"""The multiply-accumulate unit: what happens between two codes and a sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

AccumulatorOverflow = Literal["wrap", "saturate"]


@dataclass(frozen=True, kw_only=True)
class MacUnit:
    """Exact integer products added into a two's complement accumulator.

    The order of summation is k ascending inside chunks of `chunk`, each chunk from zero in the inner
    accumulator; then the chunks' sums, in order, into the outer accumulator. Overflow applies after every
    addition, inner and outer.

    Args:
        accumulator_bits: Width of the inner accumulator, 8 to 64.
        overflow: "wrap" (keep the low bits) or "saturate" (clip to -2^(b-1) .. 2^(b-1) - 1).
        chunk: Products summed in the inner accumulator before its sum moves on (the depth of an array);
            0 for the whole reduction.
        outer_bits: Width of the accumulator of the chunks' sums, 8 to 64; by default the inner one's.

    Raises:
        ValueError: A width, chunk or overflow outside these.
    """

    accumulator_bits: int = 32
    overflow: AccumulatorOverflow = "wrap"
    chunk: int = 0
    outer_bits: int | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.accumulator_bits, 8, 64):
            raise ValueError(f"an accumulator has 8 to 64 bits, got accumulator_bits={self.accumulator_bits}")
        if self.outer_bits is not None and not is_whole(self.outer_bits, 8, 64):
            raise ValueError(f"an outer accumulator has 8 to 64 bits, got outer_bits={self.outer_bits}")
        if self.overflow not in get_args(AccumulatorOverflow):
            raise ValueError(unknown("accumulator overflow", self.overflow, get_args(AccumulatorOverflow)))
        if not is_whole(self.chunk, 0, 1 << 62):
            raise ValueError(f"a chunk has 0 or more products, got chunk={self.chunk}")

    def __str__(self) -> str:
        inner = f"{self.accumulator_bits}-bit {self.overflow}"
        if not self.chunk and self.outer_bits is None:
            return inner
        chunks = f" in chunks of {self.chunk}" if self.chunk else ""
        return f"{inner}{chunks} into {self.result_bits}-bit"

    @property
    def result_bits(self) -> int:
        """Width of the result: the outer accumulator's."""
        return self.outer_bits or self.accumulator_bits

    def chunk_length(self, reduction: int) -> int:
        """Products in a full chunk of a reduction of a given length."""
        return self.chunk or max(reduction, 1)

    def additions(self, reduction: int) -> int:
        """Additions that one result takes, inner and (where chunks or an outer accumulator are given) outer."""
        chunks = -(-reduction // self.chunk_length(reduction))
        return reduction + (chunks if self.chunk or self.outer_bits else 0)


def accumulator_range(bits: int) -> tuple[int, int]:
    """Smallest and largest value of a two's complement accumulator."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
