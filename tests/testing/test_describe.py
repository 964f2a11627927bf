import math

import pytest

from lowbit_sim.numerics.catalog import FP8_E4M3FN, INT8
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.testing.describe import hexadecimal, kind_of, listing, rule
from lowbit_sim.testing.grid import float32_steps, grid_of


@pytest.mark.parametrize(
    ("y", "fmt", "kind"),
    [
        (2.5, INT8, "a tie between 2 and 3"),
        (float32_steps(2.5, 1), INT8, "one float32 step above the tie between 2 and 3"),
        (float32_steps(-2.5, -1), INT8, "one float32 step below the tie between -3 and -2"),
        (2.0, INT8, "a value of the format"),
        (2.25, INT8, "between 2 and 3"),
        (127.5, INT8, "beyond the range -127 to 127"),
        (2.0**-130, INT8, "a float32 subnormal, between 0 and 1"),
        (3 * 2.0**-10, FP8_E4M3FN, "a subnormal of fp8_e4m3fn, a tie between 0.001953125 and 0.00390625"),
        (464.0, FP8_E4M3FN, "beyond the range -448 to 448"),
        (0.0, INT8, "zero"),
        (-0.0, INT8, "a negative zero"),
        (-math.inf, INT8, "an infinity"),
        (math.nan, FP8_E4M3FN, "NaN"),
    ],
)
def test_kinds_of_input(y, fmt, kind):
    assert kind_of(y, grid_of(fmt)) == kind


@pytest.mark.parametrize("x", [0.0, 1.0, -0.1, 2.0**-149, 1e300, 127.5, math.inf])
def test_hexadecimal_numbers_are_exact(x):
    assert float.fromhex(hexadecimal(x)) == x


def test_rules_in_words():
    assert rule(Rounding()) == "nearest_even: to the nearest; a tie goes to the even one"
    text = rule(Rounding("stochastic", random_bits=4), 3)
    assert text == "stochastic: floor(y) + [floor(frac(y) 2^4) + R >= 2^4], R = 3"


@pytest.mark.parametrize("values", [[], [1, 2, 2], [3] * 16, [1, 2] + [-128] * 300 + [4] + [5] * 20])
def test_a_listing_is_what_python_reads(values):
    text = listing(values, str)
    assert eval(text) == values
    assert len(text) < 60
