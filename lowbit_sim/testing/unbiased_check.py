"""`check_unbiased`: does stochastic rounding keep the mean?

Exactly: with r random bits and x = low + j 2^-r gap between neighbouring values, the mean of fn(x, R) over all 2^r
random integers R is x. By sampling, for a function that draws its own random bits: the results are the two
neighbours, so their variance is p (1 - p) gap^2 with p = (x - low) / gap, and the mean of n samples has
z = (mean - x) / (gap sqrt(p (1 - p) / n)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.formats import Format
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.testing.contract import ContractError, called, name_of, report, search
from lowbit_sim.testing.describe import number
from lowbit_sim.testing.grid import grid_of
from lowbit_sim.testing.rounding_checks import Takes, adapted

#: More random bits than these would make one mean too many calls.
MAX_RANDOM_BITS = 16


def check_unbiased(
    fn: Callable[..., Any],
    *,
    random_bits: int | None = None,
    format: Format | str | None = None,
    takes: Takes = "float",
    samples: int = 4096,
    largest_z: float = 6.0,
    max_examples: int = 30,
    deterministic: bool = True,
) -> None:
    """Check that a stochastic rounding's mean is its input.

    Args:
        fn: With `random_bits`, `fn(x, random)` with random in [0, 2^random_bits): its mean over all of them must
            be x exactly. Without, `fn(x)` that draws its own bits (seed it): judged by `samples` results.
            Returns the integer, or with `format` the value, that x is rounded to.
        random_bits: 1 to 16, or None.
        format: The format whose values are rounded to, or None for the integers.
        takes: As in `check_rounding`.
        samples: For a function that draws its own bits, how often it is called for each input.
        largest_z: And the largest z-score that passes.
        max_examples: How many inputs are drawn.
        deterministic: Draw the same inputs each time.

    Raises:
        ContractError: The function is biased, or returns something that is not a neighbour of its input.
        ValueError: Random bits outside 1 to 16, or fewer than 2 samples.
    """
    __tracebackhide__ = True
    if random_bits is not None and not is_whole(random_bits, 1, MAX_RANDOM_BITS):
        raise ValueError(f"random_bits is 1 to {MAX_RANDOM_BITS}, or None to sample; got {random_bits}")
    if not is_whole(samples, 2, 1 << 40):
        raise ValueError(f"a mean takes at least 2 samples, got {samples}")
    call = adapted(fn, takes)

    def test(case: tuple[float, float, int]) -> None:
        __tracebackhide__ = True
        low, high, j = case
        parts = 1 << (random_bits or 8)
        # A mean over all random words can only be exact where the fraction is a multiple of 2^-r.
        x = low + (high - low) * (j % parts) / parts
        draws = [(x, r) for r in range(parts)] if random_bits else [(x,)] * samples
        results = [called(call, arguments, f"  input  {arguments}") for arguments in draws]
        _judge(name_of(fn), x, (low, high), results, largest_z if random_bits is None else None)

    search(test, _cases(format), max_examples=max_examples, deterministic=deterministic)


def _cases(format: Format | str | None) -> st.SearchStrategy[tuple[float, float, int]]:
    """Two neighbouring values and a fraction of the way between them."""
    fractions = st.integers(0, (1 << MAX_RANDOM_BITS) - 1)
    if format is None:
        return st.tuples(st.integers(-100, 100), fractions).map(
            lambda c: (float(c[0]), float(c[0] + 1), c[1])
        )
    grid = grid_of(as_format(format))
    # Few random bits split a gap of tiny subnormals below float32; those are left out.
    places = st.integers(0, len(grid) - 2).filter(lambda i: grid[i + 1] - grid[i] >= 2.0**-120)
    return st.tuples(places, fractions).map(lambda c: (grid[c[0]], grid[c[0] + 1], c[1]))


def _judge(
    name: str, x: float, ends: tuple[float, float], results: Sequence[Any], largest_z: float | None
) -> None:
    low, high = ends
    between = f"x = {number(x)}, between {low:g} and {high:g}"
    for result in results:
        if result not in (low, high):
            raise ContractError(
                report(
                    f"{name} rounds to a value that is not next to its input", input=between, got=str(result)
                )
            )
    mean = Fraction(sum(result == high for result in results), len(results)) * Fraction(
        high - low
    ) + Fraction(low)
    p = (x - low) / (high - low)
    if largest_z is None or p == 0:
        wrong, rule = mean != Fraction(x), f"the mean over all {len(results)} random integers is x"
    else:
        z = (float(mean) - x) / ((high - low) * math.sqrt(p * (1 - p) / len(results)))
        wrong, rule = abs(z) > largest_z, f"|z| <= {largest_z:g} for {len(results)} samples; z = {z:.1f}"
    if wrong:
        got = f"mean {number(float(mean))}, {float(mean) - x:+.3g} off"
        raise ContractError(
            report(f"{name} is biased", input=between, expected=f"mean {number(x)}", got=got, rule=rule)
        )
