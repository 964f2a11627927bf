"""The definition of a GEMM in a floating-point accumulator: exact fractions, one rounding for each addition."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference import float_code, float_value, magnitude_mode, round_to_integer
from lowbit_sim.numerics.rounding import Rounding, RoundingMode

NAME = "reference"


def why_not(mac: FloatMacUnit, a: Tensor, b: Tensor) -> str | None:
    """The reference runs everything."""
    return None


def rounded(x: Fraction | float, fmt: FloatFormat, rounding: Rounding, random: int = 0) -> float:
    """The value of the format that x is rounded to.

    Raises:
        ValueError: NaN where the format has none.
    """
    return float_value(float_code(x, fmt, rounding, random), fmt)


def overflows(exact: Fraction, fmt: FloatFormat, rounding: Rounding, random: int = 0) -> bool:
    """Whether a sum, rounded as if the exponent had no limit, exceeds the largest finite value.

    The spacing is that of the largest value's binade. Below that binade nothing overflows, above it everything.
    """
    spacing = Fraction(2) ** (max(fmt.max_exponent, fmt.min_exponent) - fmt.mantissa_bits)
    mode = magnitude_mode(rounding.mode, exact < 0)
    units = round_to_integer(abs(exact) / spacing, mode, random, rounding.random_bits)
    return units > Fraction(fmt.max_value) / spacing


@dataclass
class Adder:
    """Adds as the unit does, and counts.

    Attributes:
        rounding: Of every addition.
        draws: The random integer of an addition's index.
        additions: Done so far.
        overflows: Additions of finite numbers whose result exceeded the largest finite value.
        swamped: Other additions of finite numbers that lost one of them whole: it is not zero, and the result
            is the other.
    """

    rounding: Rounding
    draws: Callable[[int], int]
    additions: int = 0
    overflows: int = 0
    swamped: int = 0

    def add(self, x: float, y: float, fmt: FloatFormat) -> float:
        """x + y, rounded once into the format."""
        random = self.draws(self.additions) if self.rounding.is_stochastic else 0
        self.additions += 1
        if not (math.isfinite(x) and math.isfinite(y)):
            return rounded(x + y, fmt, self.rounding)
        exact = Fraction(x) + Fraction(y)
        if exact == 0:
            return self._zero(x, y)
        total = rounded(exact, fmt, self.rounding, random)
        if overflows(exact, fmt, self.rounding, random):
            self.overflows += 1
        elif (total == x and y != 0) or (total == y and x != 0):
            self.swamped += 1
        return total

    def _zero(self, x: float, y: float) -> float:
        """The sign of an exact zero: IEEE 754-2019 section 6.3."""
        opposite = math.copysign(1.0, x) != math.copysign(1.0, y)
        return -0.0 if opposite and self.rounding.mode == RoundingMode.DOWN else x + y


def multiply(x: float, y: float, mac: FloatMacUnit) -> float:
    """A product of two float32 values: exact, as 48 bits fit a Python float, or rounded to the product's format."""
    exact = x * y
    return exact if mac.product is None else rounded(exact, mac.product, mac.rounding_of_products)


def _in_order(terms: Iterable[float], fmt: FloatFormat, kahan: bool, adder: Adder) -> float:
    total = correction = 0.0
    for term in terms:
        if not kahan:
            total = adder.add(total, term, fmt)
            continue
        corrected = adder.add(term, -correction, fmt)
        new = adder.add(total, corrected, fmt)
        correction = adder.add(adder.add(new, -total, fmt), -corrected, fmt)
        total = new
    return total


def _tree(terms: list[float], fmt: FloatFormat, adder: Adder) -> float:
    while len(terms) > 1:
        sums = [adder.add(x, y, fmt) for x, y in zip(terms[::2], terms[1::2], strict=False)]
        terms = sums + terms[2 * len(sums) :]
    return adder.add(0.0, terms[0], fmt)


def dot(a: list[float], b: list[float], mac: FloatMacUnit, adder: Adder) -> float:
    """One result of a GEMM."""
    length = mac.chunk_length(len(a))

    def chunk_sums() -> Iterator[float]:
        for start in range(0, len(a), length):
            products = [
                multiply(x, y, mac) for x, y in zip(a[start:][:length], b[start:][:length], strict=True)
            ]
            if mac.order == "tree":
                yield _tree(products, mac.accumulator, adder)
            else:
                yield _in_order(products, mac.accumulator, mac.kahan, adder)

    if mac.has_outer:
        return _in_order(chunk_sums(), mac.result_format, mac.kahan, adder)
    return next(chunk_sums(), 0.0)


def run(mac: FloatMacUnit, a: Tensor, b: Tensor, stream: Stream | None) -> GemmResult:
    """a [M, K] times b [K, N]; result (m, n)'s addition i draws element (m N + n) additions + i of the stream."""
    rows, columns = a.tolist(), b.t().tolist()
    values = torch.zeros(a.shape[0], b.shape[1], dtype=torch.float32)
    per_result = mac.additions(a.shape[1])
    overflowed = swamped = 0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            first = (i * len(columns) + j) * per_result

            def draws(addition: int, first: int = first) -> int:
                assert stream is not None
                return draw(stream, first + addition, mac.rounding.random_bits)

            adder = Adder(mac.rounding, draws)
            values[i, j] = dot(row, column, mac, adder)
            overflowed, swamped = overflowed + adder.overflows, swamped + adder.swamped
    return GemmResult(
        values=values.to(a.device), overflows=overflowed, swamped=swamped, backend=NAME, why="asked for"
    )
