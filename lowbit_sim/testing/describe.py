"""Numbers, inputs and rules in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.testing.grid import Grid, float32_steps, neighbours

#: The smallest normal float32 number.
_SMALLEST_NORMAL = 2.0**-126

#: The shortest run of one element that is not written out.
_RUN = 16

_RULES: dict[str, str] = {
    RoundingMode.NEAREST_EVEN: "to the nearest; a tie goes to the even one",
    RoundingMode.NEAREST_AWAY: "to the nearest; a tie goes away from zero",
    RoundingMode.TOWARD_ZERO: "toward zero",
    RoundingMode.DOWN: "down, toward minus infinity",
    RoundingMode.UP: "up, toward plus infinity",
}


def hexadecimal(x: float) -> str:
    """A number as `float.fromhex` reads it, exactly, without `float.hex`'s zeros: 0x1.8p+0."""
    mantissa, p, exponent = float(x).hex().partition("p")
    return mantissa.rstrip("0").rstrip(".") + p + exponent if p and "." in mantissa else str(float(x))


def number(x: float) -> str:
    """A number as hexadecimal float, which is exact, and in decimal."""
    return f"{hexadecimal(x)} ({x:.9g})" if math.isfinite(x) else str(float(x))


def numbers(values: Sequence[float]) -> str:
    """A list of hexadecimal floats."""
    return "[" + ", ".join(map(hexadecimal, values)) + "]"


def listing(values: Sequence[Any], show: Callable[[Any], str]) -> str:
    """A list as Python reads it, long runs of one element as a product: [1, 2] + [-128] * 512.

    Args:
        values: The elements.
        show: One element in words.
    """
    parts: list[str] = []
    single: list[str] = []
    for value, run in itertools.groupby(values):
        count = sum(1 for _ in run)
        if count < _RUN:
            single += [show(value)] * count
            continue
        if single:
            parts, single = [*parts, f"[{', '.join(single)}]"], []
        parts.append(f"[{show(value)}] * {count}")
    if single or not parts:
        parts.append(f"[{', '.join(single)}]")
    return " + ".join(parts)


def rule(rounding: Rounding, random: int | None = None) -> str:
    """A rounding in words.

    Args:
        rounding: The rounding.
        random: The random integer of the element in question.
    """
    if not rounding.is_stochastic:
        return f"{rounding.mode}: {_RULES[rounding.mode]}"
    drawn = "" if random is None else f" = {random}"
    bits = rounding.random_bits
    return f"stochastic: floor(y) + [floor(frac(y) 2^{bits}) + R >= 2^{bits}], R{drawn}"


def kind_of(y: float, grid: Sequence[float]) -> str:
    """What kind of input a number is to a format's values: "a tie", "a subnormal", "beyond the range" ...

    Args:
        y: The number, after scaling.
        grid: The format's finite values, ascending.
    """
    if math.isnan(y):
        return "NaN"
    if math.isinf(y):
        return "an infinity"
    if y == 0:
        return "a negative zero" if math.copysign(1.0, y) < 0 else "zero"
    where = _place(y, grid)
    if abs(y) < _SMALLEST_NORMAL:
        return f"a float32 subnormal, {where}"
    fmt = grid.format if isinstance(grid, Grid) else None
    if isinstance(fmt, FloatFormat) and fmt.has_subnormals and abs(y) < 2.0**fmt.min_exponent:
        return f"a subnormal of {fmt}, {where}"
    return where


def _place(y: float, grid: Sequence[float]) -> str:
    low, high = grid[0], grid[-1]
    if not low <= y <= high:
        return f"beyond the range {low:.9g} to {high:.9g}"
    low, high = neighbours(grid, y)
    if low == high:
        return "a value of the format"
    between = f"between {low:.9g} and {high:.9g}"
    middle = low / 2 + high / 2
    if y == middle:
        return f"a tie {between}"
    for steps, side in ((1, "above"), (-1, "below")):
        if y == float32_steps(middle, steps):
            return f"one float32 step {side} the tie {between}"
    return between
