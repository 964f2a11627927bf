import numpy as np
import pytest

import lowbit_sim as lb
from lowbit_sim.numerics.whole import is_whole


@pytest.mark.parametrize(
    ("value", "expected"), [(2, True), (4, True), (np.int64(3), True), (1, False), (5, False)]
)
def test_the_range_includes_its_ends(value, expected):
    assert is_whole(value, 2, 4) is expected


@pytest.mark.parametrize("value", [4.0, True, "4", None])
def test_what_is_not_a_whole_number_is_refused_everywhere(value):
    assert not is_whole(value, 0, 10)
    for build in (
        lambda: lb.IntFormat(bits=value),
        lambda: lb.FloatFormat(exponent_bits=value, mantissa_bits=3, bias=7),
        lambda: lb.FloatFormat(exponent_bits=4, mantissa_bits=value, bias=7),
        lambda: lb.FloatFormat(exponent_bits=4, mantissa_bits=3, bias=value),
        lambda: lb.Rounding("stochastic", random_bits=value),
        lambda: lb.Stream(seed=value),
        lambda: lb.Stream(seed=0, offset=value),
        lambda: lb.MacUnit(accumulator_bits=value),
        lambda: lb.MacUnit(chunk=value),
    ):
        with pytest.raises(ValueError, match=f"{value}"):
            build()
