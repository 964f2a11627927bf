"""Every addition behind one result of a floating-point GEMM, one by one: `float_reference.dot` with its sums shown.

The numbers are the definition's own, noted down as it adds; only where in the reduction an addition stands is worked
out here. `additions.py` does the same for integer accumulators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_reference import Adder, dot
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream, draw

#: What an addition yields. "sum" is the running sum (or a tree's node); the others are those of compensated
#: summation: corrected = term - correction, sum = sum + corrected, gained = new sum - old sum, correction = gained -
#: corrected.
Part = Literal["sum", "corrected", "gained", "correction"]

_PLAIN: tuple[Part, ...] = ("sum",)
_KAHAN: tuple[Part, ...] = ("corrected", "sum", "gained", "correction")


@dataclass(frozen=True, kw_only=True)
class FloatAddition:
    """One rounded addition.

    Attributes:
        accumulator: "inner" (inside a chunk) or "outer" (a chunk's sum joins the others).
        part: What it yields.
        chunk: The chunk's number.
        last: Index k of the last product that the new value holds, or that it corrects for.
        before: The accumulator, or the adder's left input, before.
        term: What was added.
        value: before + term, rounded.
        overflowed: Whether finite numbers gave a sum beyond the largest finite value.
        swamped: Whether one of them was lost whole; see `float_reference.Adder`.
        random: The random integer drawn; None unless the rounding is stochastic.
    """

    accumulator: Literal["inner", "outer"]
    part: Part
    chunk: int
    last: int
    before: float
    term: float
    value: float
    overflowed: bool
    swamped: bool
    random: int | None


@dataclass
class _Recorder(Adder):
    """Notes before, term, value, overflowed, swamped and random integer of every addition."""

    log: list[tuple[float, float, float, bool, bool, int | None]] = field(default_factory=list)

    def add(self, x: float, y: float, fmt: FloatFormat) -> float:
        random = self.draws(self.additions) if self.rounding.is_stochastic else None
        overflows, swamped = self.overflows, self.swamped
        value = super().add(x, y, fmt)
        self.log.append((x, y, value, self.overflows > overflows, self.swamped > swamped, random))
        return value


def float_additions(
    a: Sequence[float], b: Sequence[float], mac: FloatMacUnit, *, stream: Stream | None = None, first: int = 0
) -> tuple[float, list[FloatAddition]]:
    """One result of a GEMM, and the additions that led to it, in order.

    In a tree a chunk's additions are its nodes', level by level, then the root's to the accumulator's zero.

    Args:
        a: float32 values [K].
        b: float32 values [K].
        mac: The multiply-accumulate unit.
        stream: Address of the random bits; needed for stochastic rounding only.
        first: Element of the stream that the first addition draws: (m N + n) `mac.additions(K)` for result (m, n).

    Raises:
        ValueError: Vectors of different lengths, or stochastic rounding without a stream.
    """
    if len(a) != len(b):
        raise ValueError(f"a dot product takes two vectors of one length, got {len(a)} and {len(b)}")
    if mac.rounding.is_stochastic and stream is None:
        raise ValueError(
            "a stochastic accumulator needs the address of its random bits: pass stream=Stream(seed=...)"
        )

    def draws(addition: int) -> int:
        assert stream is not None
        return draw(stream, first + addition, mac.rounding.random_bits)

    recorder = _Recorder(mac.rounding, draws)
    value = dot(list(a), list(b), mac, recorder)
    log = [
        FloatAddition(
            accumulator=accumulator,
            part=part,
            chunk=chunk,
            last=last,
            before=before,
            term=term,
            value=after,
            overflowed=overflowed,
            swamped=swamped,
            random=random,
        )
        for (accumulator, part, chunk, last), (before, term, after, overflowed, swamped, random) in zip(
            _places(len(a), mac), recorder.log, strict=True
        )
    ]
    return value, log


_Place = tuple[Literal["inner", "outer"], Part, int, int]


def _places(reduction: int, mac: FloatMacUnit) -> Iterator[_Place]:
    """Accumulator, part, chunk and last product of each addition of a dot product."""
    parts = _KAHAN if mac.kahan else _PLAIN
    length = mac.chunk_length(reduction)
    for chunk, start in enumerate(range(0, reduction, length)):
        products = range(start, min(start + length, reduction))
        ends = _tree_ends(products) if mac.order == "tree" else products
        for last in ends:
            for part in parts:
                yield "inner", part, chunk, last
        if mac.has_outer:
            for part in parts:
                yield "outer", part, chunk, products[-1]


def _tree_ends(products: Sequence[int]) -> Iterator[int]:
    """The last product of each node of a balanced tree, and of its root once more."""
    level = list(products)
    while len(level) > 1:
        above = level[1::2]
        yield from above
        level = above + level[len(level) & ~1 :]
    yield level[0]
