"""Every addition behind one result of a GEMM, one by one: `backends/reference.dot` with its accumulators shown.

For a reader who compares another implementation (a circuit's simulation, a kernel) with the definition and wants to
know where the two part. `tests/arith/test_additions.py` holds it to the reference's results and overflow counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from lowbit_sim.arith.backends.reference import add
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.reference import round_to_integer


@dataclass(frozen=True, kw_only=True)
class Addition:
    """One addition that the overflow rule is applied to.

    Attributes:
        accumulator: "inner" (inside a chunk) or "outer" (a chunk's sum joins the others).
        chunk: The chunk's number.
        last: Index k of the last product that the new value holds.
        before: The accumulator, or the adder's left input, before.
        term: What was added. For the outer accumulator a chunk's sum without its truncated bits.
        value: The accumulator after.
        overflowed: Whether before + term did not fit.
    """

    accumulator: Literal["inner", "outer"]
    chunk: int
    last: int
    before: int
    term: int
    value: int
    overflowed: bool


def products_of(a: Sequence[int], b: Sequence[int], mac: MacUnit) -> list[int]:
    """The products of two vectors of codes."""
    table = mac.products
    return [x * y if table is None else table.product(x, y) for x, y in zip(a, b, strict=True)]


def additions(a: Sequence[int], b: Sequence[int], mac: MacUnit) -> tuple[int, list[Addition]]:
    """One result of a GEMM, and the additions that led to it, in order.

    In a tree a chunk's additions are its products' (each to zero), then the adders', level by level. Each chunk's
    sum is then added to the outer accumulator, also where there is one chunk and the two are the same.

    Args:
        a: Codes [K].
        b: Codes [K].
        mac: The multiply-accumulate unit.

    Raises:
        ValueError: Vectors of different lengths.
    """
    products = products_of(a, b, mac)
    length = mac.chunk_length(len(products))
    log: list[Addition] = []
    outer = 0
    for chunk, start in enumerate(range(0, len(products), length)):
        terms = products[start : start + length]
        inner = _chunk(terms, start, chunk, mac, log)
        moved = round_to_integer(Fraction(inner, 1 << mac.truncated_bits), mac.truncation)
        outer = _log(log, mac, "outer", chunk, start + len(terms) - 1, outer, moved)
    return outer << mac.truncated_bits, log


def _log(
    log: list[Addition],
    mac: MacUnit,
    accumulator: Literal["inner", "outer"],
    chunk: int,
    last: int,
    before: int,
    term: int,
) -> int:
    bits = mac.accumulator_bits if accumulator == "inner" else mac.result_bits
    value, overflowed = add(before, term, bits, mac.overflow)
    log.append(
        Addition(
            accumulator=accumulator,
            chunk=chunk,
            last=last,
            before=before,
            term=term,
            value=value,
            overflowed=overflowed,
        )
    )
    return value


def _chunk(terms: list[int], start: int, chunk: int, mac: MacUnit, log: list[Addition]) -> int:
    """A chunk's sum; its additions go into the log."""
    last = start + len(terms) - 1
    if mac.overflow_at == "outer":
        return sum(terms)
    if mac.overflow_at == "chunk":
        return _log(log, mac, "inner", chunk, last, 0, sum(terms))
    if mac.order == "tree":
        return _tree(terms, start, chunk, mac, log)
    inner = 0
    for k, term in enumerate(terms, start):
        inner = _log(log, mac, "inner", chunk, k, inner, term)
    return inner


def _tree(terms: list[int], start: int, chunk: int, mac: MacUnit, log: list[Addition]) -> int:
    level = [(k, _log(log, mac, "inner", chunk, k, 0, term)) for k, term in enumerate(terms, start)]
    while len(level) > 1:
        above = [
            (k, _log(log, mac, "inner", chunk, k, left, right))
            for (_, left), (k, right) in zip(level[::2], level[1::2], strict=False)
        ]
        level = above + level[len(level) & ~1 :]
    return level[0][1]
