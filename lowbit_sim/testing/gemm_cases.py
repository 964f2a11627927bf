"""Operands that `check_mac` and `check_backend` always try: sums that leave their range, and lengths at tile edges.

A few products can't make a wide accumulator overflow, and a search that must write every code down draws only a few.
These operands are built from a seed or from runs of one code instead, so they may be long.

With p the largest (or the most negative) product and [low, high] the range, n = high // p + 1 products leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.quant.qtensor import element_format
from lowbit_sim.testing.grid import grid_of

#: The longest reduction that is built to overflow: 2^17 products of -128 x -128 reach 2^31; the rest is for the other
#: side, where a product is -128 x 127, and for what follows.
REACH = (1 << 17) + (1 << 13)

#: Lengths around those of SIMD registers and tiles, with the rows and columns they come with.
EDGES = (
    *((31, 1, 1), (32, 17, 1), (33, 2, 2), (63, 1, 17), (64, 2, 1), (65, 17, 2)),
    *((127, 1, 2), (128, 2, 17), (129, 1, 1), (33, 17, 17)),
)

#: Ones in a row: a float accumulator of up to 11 mantissa bits stops growing on the way.
_ONES = 4097

#: Factors of two vectors.
Vectors = tuple[list[int], list[int]]
FloatVectors = tuple[list[float], list[float]]


def integer_format(format: Format | str) -> IntFormat:
    """The integer format of a name.

    Raises:
        TypeError: Not an integer format.
    """
    fmt = as_format(format)
    if not isinstance(fmt, IntFormat):
        raise TypeError(f"integer codes are of an integer format, got {fmt}")
    return fmt


def seeded_codes(format: Format | str, shape: tuple[int, ...], seed: int, extreme: bool) -> np.ndarray:
    """Codes, int64, all of them or the smallest and the largest only."""
    fmt, rng = integer_format(format), np.random.default_rng(seed)
    if extreme:
        return rng.choice(np.array([fmt.qmin, fmt.qmax], dtype=np.int64), shape)
    return rng.integers(fmt.qmin, fmt.qmax + 1, shape, dtype=np.int64)


def seeded_values(format: Format | str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Finite values of a format, float32, each as likely as any other."""
    grid = grid_of(element_format(as_format(format)))
    places = np.random.default_rng(seed).integers(0, len(grid), shape)
    return np.array([grid[int(i)] for i in places.reshape(-1)], dtype=np.float32).reshape(shape)


def overflowing(mac: MacUnit, a_format: Format | str, b_format: Format | str) -> Iterator[Vectors]:
    """Vectors with which the unit's accumulators overflow, above and below, where `REACH` products can do it.

    For each accumulator and each side: sums that end beyond the range; and sums that leave it on the way and come
    back, once in a run and once with every second product, which a clip at the end, or after a few products, misses.
    """
    pairs = _extreme_pairs(mac, a_format, b_format)
    for up, down in (pairs, pairs[::-1]):
        for terms in _inner(mac, up, down):
            yield [t[0] for t in terms], [t[1] for t in terms]
        for terms in _outer(mac, up, down):
            yield [t[0] for t in terms], [t[1] for t in terms]


#: Two codes and their product.
_Term = tuple[int, int, int]
_NOTHING: _Term = (0, 0, 0)


def _extreme_pairs(mac: MacUnit, a_format: Format | str, b_format: Format | str) -> tuple[_Term, _Term]:
    """The pairs of extreme codes with the largest and the smallest product."""
    a, b = integer_format(a_format), integer_format(b_format)
    product = (lambda x, y: x * y) if mac.products is None else mac.products.product
    terms = [(x, y, product(x, y)) for x in (a.qmin, a.qmax) for y in (b.qmin, b.qmax)]
    return max(terms, key=lambda t: t[2]), min(terms, key=lambda t: t[2])


def _needed(term: int, bits: int, overflow: str) -> int:
    """How many equal terms leave an accumulator's range; more than `REACH` where none do."""
    low, high = accumulator_range(bits, overflow)
    return (high if term > 0 else -low) // abs(term) + 1 if term else REACH + 1


def _walks(up: _Term, down: _Term, count: int) -> Iterator[list[_Term]]:
    """Out of the range for good; out and back; to the edge and out with every second product."""
    yield [up] * (count + 2)
    if up[2] * down[2] < 0:
        back = min(3 * abs(up[2]) // abs(down[2]) + 2, REACH >> 4)
        yield [up] * (count + 2) + [down] * back
        yield [up] * (count - 1) + [up, down] * 8 + [down]


def _inner(mac: MacUnit, up: _Term, down: _Term) -> Iterator[list[_Term]]:
    """Within one chunk."""
    count = _needed(up[2], mac.accumulator_bits, mac.overflow)
    if mac.overflow_at == "outer" or count > min(mac.chunk or REACH, REACH):
        return
    for walk in _walks(up, down, count):
        yield walk[: mac.chunk] if mac.chunk else walk


def _outer(mac: MacUnit, up: _Term, down: _Term) -> Iterator[list[_Term]]:
    """Chunk by chunk, each with as many products as the inner accumulator holds, and zeros after them."""
    most = min(mac.chunk or REACH, REACH)
    if mac.overflow_at != "outer":
        most = min([most, *(_needed(t[2], mac.accumulator_bits, mac.overflow) - 1 for t in (up, down))])
    if not mac.chunk or mac.chunk > REACH:
        # The one sum moves on at the end, so it can only be too large for the outer accumulator.
        count = _needed(up[2], mac.value_bits, mac.overflow)
        if count + 2 <= most and (mac.outer_bits is not None or mac.overflow_at == "outer"):
            yield [up] * (count + 2)
        return
    full = up[2] * most
    if not most or mac.chunk * _needed(full, mac.value_bits, mac.overflow) > REACH:
        return
    rest = [_NOTHING] * (mac.chunk - most)
    for walk in _walks((0, 0, full), (1, 1, down[2] * most), _needed(full, mac.value_bits, mac.overflow)):
        yield [term for step in walk for term in [down if step[0] else up] * most + rest]


def edges(a_format: Format | str, b_format: Format | str) -> Iterator[Vectors]:
    """Vectors of the lengths in `EDGES`, with any codes and with extreme ones."""
    for reduction, rows, columns in EDGES:
        for extreme in (False, True):
            seed = reduction + rows + columns
            a = seeded_codes(a_format, (reduction,), 2 * seed, extreme)
            yield a.tolist(), seeded_codes(b_format, (reduction,), 2 * seed + 1, extreme).tolist()


def float_edges(a_format: Format | str, b_format: Format | str) -> Iterator[FloatVectors]:
    """Vectors of the lengths in `EDGES`, with any values, and many times the same."""
    for reduction, rows, columns in EDGES:
        seed = reduction + rows + columns
        a = seeded_values(a_format, (reduction,), 2 * seed)
        yield a.tolist(), seeded_values(b_format, (reduction,), 2 * seed + 1).tolist()
    yield [_nearest_to_one(a_format)] * _ONES, [_nearest_to_one(b_format)] * _ONES


def _nearest_to_one(format: Format | str) -> float:
    grid: Sequence[float] = grid_of(element_format(as_format(format)))
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if grid[middle] < 1 else (low, middle)
    return grid[low]


def matrices(
    mac: MacUnit | FloatMacUnit, a_format: Format | str, b_format: Format | str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """a [M, K] and b [K, N]: the sizes in `EDGES`, then 1 x K x 1 with the vectors of `overflowing`."""
    for i, (reduction, rows, columns) in enumerate(EDGES):
        sizes = (rows, reduction), (reduction, columns)
        if isinstance(mac, FloatMacUnit):
            yield seeded_values(a_format, sizes[0], 2 * i), seeded_values(b_format, sizes[1], 2 * i + 1)
            continue
        for extreme in (False, True):
            a = seeded_codes(a_format, sizes[0], 2 * i, extreme)
            yield a, seeded_codes(b_format, sizes[1], 2 * i + 1, extreme)
    if isinstance(mac, FloatMacUnit):
        one = np.ones((1, _ONES), dtype=np.float32)
        yield one * np.float32(_nearest_to_one(a_format)), one.T * np.float32(_nearest_to_one(b_format))
        return
    for x, y in overflowing(mac, a_format, b_format):
        yield np.array(x)[None, :], np.array(y)[:, None]
