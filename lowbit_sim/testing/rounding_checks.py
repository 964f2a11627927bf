"""`check_rounding`: is a function from numbers to integers the rounding mode that it claims to be?"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from lowbit_sim.numerics.reference import round_to_integer
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.testing.contract import MAX_EXAMPLES, ContractError, called, name_of, report, search
from lowbit_sim.testing.describe import kind_of, number, rule
from lowbit_sim.testing.grid import float32_steps

#: What a function under test is handed: Python numbers one by one, or one-dimensional arrays.
Takes = Literal["float", "numpy", "torch"]

#: Where rounding goes wrong: ties of both parities and signs and their neighbours, of which the one below 0.5 is
#: rounded up by floor(x + 0.5); the last halves of float32, and the odd integers beyond, whose sum with 0.5 is
#: itself rounded.
_TIES = (0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.5)
TRAPS = (
    *(0.0, 1.0, -1.0, *_TIES),
    *(float32_steps(tie, step) for tie in _TIES for step in (-1, 1)),
    *(2.0**-149, -(2.0**-149), 2.0**-126, 0.25, -0.25, 0.75, -0.75),
    *(2.0**22 + 0.5, -(2.0**22) - 0.5, 2.0**23 - 0.5, 2.0**23 + 1.0, -(2.0**23) - 1.0),
)


class _Case(NamedTuple):
    x: float
    random: int


def check_rounding(
    fn: Callable[..., Any],
    mode: str | Rounding,
    *,
    random_bits: int = 0,
    takes: Takes = "float",
    largest: float = 2.0**24,
    max_examples: int = MAX_EXAMPLES,
    deterministic: bool = True,
) -> None:
    """Check that a function rounds float32 values to integers as a rounding mode says.

    Args:
        fn: `fn(x)`, or `fn(x, random)` for "stochastic" with a random integer in [0, 2^random_bits); returns
            the integer (of any number type).
        mode: A `RoundingMode`, its name, or a `Rounding`.
        random_bits: For "stochastic", the number of random bits.
        takes: "float": fn is handed Python numbers. "numpy", "torch": it is handed float32 arrays [n] (and int64
            arrays of random integers) and returns an array [n].
        largest: The largest magnitude that is tried.
        max_examples: How many inputs are drawn, beside a fixed list of known traps.
        deterministic: Draw the same inputs each time.

    Raises:
        ContractError: The function differs; the message shows the simplest input found.
        ValueError: An unknown mode, random bits that don't fit it, a `largest` that is not positive, or an
            unknown `takes`.
    """
    __tracebackhide__ = True
    rounding = mode if isinstance(mode, Rounding) else Rounding(mode, random_bits=random_bits)
    if not 0 < largest < math.inf:
        raise ValueError(f"largest is a positive number, got {largest}")
    words = (1 << rounding.random_bits) - 1
    call = adapted(fn, takes)

    def test(case: _Case) -> None:
        __tracebackhide__ = True
        arguments = (case.x, case.random) if rounding.is_stochastic else (case.x,)
        shown = f"  input  x = {number(case.x)}" + (f", R = {case.random}" if words else "")
        got = called(call, arguments, shown)
        expected = round_to_integer(Fraction(case.x), rounding.mode, case.random, rounding.random_bits)
        if got != expected:
            raise ContractError(_story(fn, case, got, expected, rounding))

    random = st.integers(0, words) | st.sampled_from(sorted({0, min(1, words), words}))
    search(
        test,
        st.builds(_Case, _inputs(largest, rounding.random_bits), random),
        first=_first(rounding.random_bits, largest),
        max_examples=max_examples,
        deterministic=deterministic,
    )


def _first(random_bits: int, largest: float) -> list[_Case]:
    """The known traps, and for stochastic rounding both sides of where a carry sets in."""
    words, parts = (1 << random_bits) - 1, 1 << random_bits
    cases = [_Case(x, r) for x in TRAPS for r in sorted({0, words})]
    if random_bits:
        edges = sorted({0, 1, parts // 2 - 1, parts // 2, words - 1, words})
        cases += [_Case(x, r) for x in (1 / parts, 0.5, -1 / parts) for r in edges]
    return [case for case in cases if abs(case.x) <= largest]


def _story(fn: Callable[..., Any], case: _Case, got: Any, expected: int, rounding: Rounding) -> str:
    floor = math.floor(case.x)
    kind = kind_of(case.x, [float(floor + k) for k in (-1, 0, 1, 2)])
    return report(
        f"{name_of(fn)} does not round {rounding.mode}",
        input=f"x = {number(case.x)}, {kind.replace('a value of the format', 'an integer')}",
        expected=str(expected),
        got=str(got),
        rule=rule(rounding, case.random if rounding.is_stochastic else None),
    )


def adapted(fn: Callable[..., Any], takes: Takes) -> Callable[..., Any]:
    """A function of numbers, from one of numbers or of arrays."""
    if takes == "float":
        return fn
    if takes not in ("numpy", "torch"):
        raise ValueError(f"takes is 'float', 'numpy' or 'torch', got {takes!r}")

    def one(x: float, *random: int) -> Any:
        arrays = [np.array([x], dtype=np.float32), *(np.array([r], dtype=np.int64) for r in random)]
        # A second element, so that a function that mixes elements up is found too.
        arrays = [np.concatenate([a, np.ones(1, dtype=a.dtype)]) for a in arrays]
        result = fn(*map(torch.from_numpy, arrays)) if takes == "torch" else fn(*arrays)
        return result.reshape(-1)[0].item()

    return one


def _inputs(largest: float, random_bits: int) -> st.SearchStrategy[float]:
    """Float32 values up to a magnitude: halves, quarters, where a carry sets in; their neighbours; anything."""
    limit = int(min(largest, 2.0**23) * 4)
    quarters = st.integers(-limit, limit).map(lambda k: float(np.float32(k / 4)))
    small = st.integers(-64, 64).map(lambda k: k / 4)
    parts = 1 << random_bits
    carries = st.integers(-8 * parts, 8 * parts).map(lambda k: float(np.float32(k / parts)))
    carries |= st.sampled_from([1 / parts, 1 - 1 / parts]).map(lambda x: float(np.float32(x)))
    near = st.builds(float32_steps, small | quarters | carries, st.sampled_from([1, 0, -1]))
    bound = float(np.float32(largest)) if largest < 3.4e38 else float(np.finfo(np.float32).max)
    anything = st.floats(-bound, bound, width=32)
    return st.one_of(small, near, quarters, anything).filter(lambda x: abs(x) <= largest)
