"""The multiply-accumulate unit: what happens between two codes and a sum.

For one result of a GEMM, with [.]_b the overflow rule of a b-bit accumulator and the defaults of the other fields:

    p_k     = a_k b_k                                   (or products.table)
    inner_c = [... [[p_s]_b + p_s+1]_b + ...]_b         k ascending in chunk c
    outer   = [... [t(inner_0)]_o + t(inner_1) ...]_o   c ascending;  t drops `truncated_bits` bits, rounded
    result  = outer 2^truncated_bits

`backends/reference.py` is the definition, in Python integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lowbit_sim.arith.products import ProductTable
from lowbit_sim.numerics.rounding import RoundingMode
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

AccumulatorOverflow = Literal["wrap", "saturate", "saturate_symmetric"]
OverflowAt = Literal["addition", "chunk", "outer"]
SummationOrder = Literal["sequential", "tree"]

#: How a chunk's sum may lose its low bits: the rounding modes that need no random bits.
TRUNCATIONS = tuple(mode.value for mode in RoundingMode if mode != RoundingMode.STOCHASTIC)


@dataclass(frozen=True, kw_only=True)
class MacUnit:
    """Integer products added into a two's complement accumulator.

    The order of summation is k ascending inside chunks of `chunk`, each chunk from zero in the inner
    accumulator; then the chunks' sums, in order, into the outer accumulator. Overflow applies after every
    addition, inner and outer, unless `overflow_at` says otherwise.

    Args:
        accumulator_bits: Width of the inner accumulator, 8 to 64.
        overflow: "wrap" (keep the low bits), "saturate" (clip to -2^(b-1) .. 2^(b-1) - 1) or
            "saturate_symmetric" (clip to +-(2^(b-1) - 1)).
        chunk: Products summed in the inner accumulator before its sum moves on (the depth of an array);
            0 for the whole reduction.
        outer_bits: Width of the accumulator of the chunks' sums, 8 to 64; by default the inner one's.
        overflow_at: Where the overflow rule acts. "addition": after every addition. "chunk": the sum of a
            chunk is exact, then brought to the inner width once; after that, after every outer addition.
            "outer": after every outer addition only; the inner width then serves as the default of
            `outer_bits` and nothing else.
        truncated_bits: Low bits that a chunk's sum loses when it moves to the outer accumulator, which then
            counts in units of 2^truncated_bits; the result is shifted back.
        truncation: Rounding mode of that loss; "down" cuts the bits off.
        order: "sequential", or "tree": inside a chunk a tree of adders over adjacent products, level by
            level, an odd one out carried up; one tree over the whole reduction where `chunk` is 0. A product
            enters the tree in the inner accumulator's width, as if it were added to zero.
        products: The product of every two codes (an approximate multiplier), or None for exact products.

    Raises:
        ValueError: A width, chunk or name outside these; bits to truncate that leave none of the inner sum or
            make a result of more than 64 bits; a truncation without bits to truncate.
        TypeError: Products that are not a `ProductTable`.
    """

    accumulator_bits: int = 32
    overflow: AccumulatorOverflow = "wrap"
    chunk: int = 0
    outer_bits: int | None = None
    overflow_at: OverflowAt = "addition"
    truncated_bits: int = 0
    truncation: str = RoundingMode.DOWN.value
    order: SummationOrder = "sequential"
    products: ProductTable | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.accumulator_bits, 8, 64):
            raise ValueError(f"an accumulator has 8 to 64 bits, got accumulator_bits={self.accumulator_bits}")
        if self.outer_bits is not None and not is_whole(self.outer_bits, 8, 64):
            raise ValueError(f"an outer accumulator has 8 to 64 bits, got outer_bits={self.outer_bits}")
        if not is_whole(self.chunk, 0, 1 << 62):
            raise ValueError(f"a chunk has 0 or more products, got chunk={self.chunk}")
        self._check_name("accumulator overflow", self.overflow, get_args(AccumulatorOverflow))
        self._check_name("overflow_at", self.overflow_at, get_args(OverflowAt))
        self._check_name("order of summation", self.order, get_args(SummationOrder))
        self._check_truncation()
        if self.products is not None and not isinstance(self.products, ProductTable):
            raise TypeError(f"products takes a ProductTable or None, got {type(self.products).__name__}")

    @staticmethod
    def _check_name(what: str, name: object, known: tuple[str, ...]) -> None:
        if name not in known:
            raise ValueError(unknown(what, name, known))

    def _check_truncation(self) -> None:
        self._check_name("truncation", self.truncation, TRUNCATIONS)
        if not is_whole(self.truncated_bits, 0, 63):
            raise ValueError(f"a sum loses 0 to 63 bits, got truncated_bits={self.truncated_bits}")
        if not self.truncated_bits and self.truncation != RoundingMode.DOWN:
            raise ValueError(f"truncation={str(self.truncation)!r} needs truncated_bits of 1 or more, got 0")
        if self.overflow_at != "outer" and self.truncated_bits >= self.accumulator_bits:
            raise ValueError(
                f"truncated_bits={self.truncated_bits} leaves nothing of accumulator_bits={self.accumulator_bits}"
            )
        if self.value_bits > 64:
            raise ValueError(
                f"a result of {self.result_bits} bits counting in units of 2^{self.truncated_bits} needs "
                f"{self.value_bits} bits; at most 64 are kept"
            )

    def __str__(self) -> str:
        text = f"{self.accumulator_bits}-bit {self.overflow}"
        if self.chunk or self.outer_bits is not None:
            chunks = f" in chunks of {self.chunk}" if self.chunk else ""
            text += f"{chunks} into {self.result_bits}-bit"
        if self.overflow_at != "addition":
            text += f", overflow at {self.overflow_at}"
        if self.truncated_bits:
            text += f", {self.truncated_bits} low bits rounded {self.truncation}"
        if self.order == "tree":
            text += ", adder tree"
        return text + (f", products {self.products}" if self.products else "")

    @property
    def result_bits(self) -> int:
        """Width of the outer accumulator."""
        return self.outer_bits or self.accumulator_bits

    @property
    def value_bits(self) -> int:
        """Width that holds every result: the outer accumulator's and the truncated bits."""
        return self.result_bits + self.truncated_bits

    @property
    def exact_products(self) -> bool:
        """Whether every product is a_k b_k."""
        return self.products is None or self.products.is_exact

    def chunk_length(self, reduction: int) -> int:
        """Products in a full chunk of a reduction of a given length."""
        return self.chunk or max(reduction, 1)

    def chunks(self, reduction: int) -> int:
        """Chunks in a reduction of a given length."""
        return -(-reduction // self.chunk_length(reduction))

    def additions(self, reduction: int) -> int:
        """Additions of one result that the overflow rule is applied to, so the most that can overflow.

        Inner ones: with `overflow_at` "addition" one for each product, as the first is added to zero, and in
        a tree also one for each node; with "chunk" the last one of each chunk; with "outer" none. Outer ones:
        one for each chunk, where chunks, an outer accumulator or `overflow_at` "outer" is given; the one sum
        of an accumulator without these moves on unchanged.
        """
        chunks = self.chunks(reduction)
        tree = 2 * reduction - chunks if self.order == "tree" else reduction
        inner = {"addition": tree, "chunk": chunks, "outer": 0}[self.overflow_at]
        has_outer = self.chunk or self.outer_bits or self.overflow_at == "outer"
        return inner + (chunks if has_outer else 0)


def accumulator_range(bits: int, overflow: str = "wrap") -> tuple[int, int]:
    """Smallest and largest value that an accumulator of a width and an overflow rule keeps."""
    high = (1 << (bits - 1)) - 1
    return (-high if overflow == "saturate_symmetric" else -high - 1), high
