import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lowbit_sim.numerics.reference import round_to_integer
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.testing import ContractError, check_rounding
from lowbit_sim.testing.rounding_checks import TRAPS


def half_away(x):
    return int(math.copysign(math.floor(Fraction(abs(x)) + Fraction(1, 2)), x))


RIGHT = {
    "nearest_even": round,
    "nearest_away": half_away,
    "toward_zero": math.trunc,
    "down": math.floor,
    "up": math.ceil,
}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("mode", RIGHT)
def test_right_functions_pass_and_pass_for_no_other_mode(mode):
    check_rounding(RIGHT[mode], mode)
    for other in set(RIGHT) - {mode}:
        with pytest.raises(ContractError, match=f"does not round {other}"):
            check_rounding(RIGHT[mode], other)


@pytest.mark.parametrize("bits", [1, 4, 8, 32])
def test_stochastic_rounding_is_a_function_of_the_random_integer(bits):
    def right(x, random):
        return round_to_integer(Fraction(x), "stochastic", random, bits)

    check_rounding(right, "stochastic", random_bits=bits, max_examples=60)
    check_rounding(right, Rounding("stochastic", random_bits=bits), max_examples=20)
    with pytest.raises(ContractError, match="R = "):
        check_rounding(lambda x, random: right(x, max(random - 1, 0)), "stochastic", random_bits=bits)


WRONG = {
    # The largest float32 below one half, plus one half, is one.
    "float32 sum": (lambda x: math.floor(np.float32(x) + np.float32(0.5)), "nearest_away", "tie"),
    "ties to odd": (
        lambda x: math.floor(x) if x % 1 == 0.5 and math.floor(x) % 2 else round(x),
        "nearest_even",
        "tie",
    ),
    "only negative ties": (lambda x: round(x) if x < 0 else half_away(x), "nearest_even", "tie"),
    "subnormals flushed": (lambda x: 0 if abs(x) < 2.0**-126 else math.ceil(x), "up", "subnormal"),
    "small integers only": (
        lambda x: int(np.int16(min(max(round(x), -32768), 32767))),
        "nearest_even",
        "4194304 and 4194305",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_functions_are_found_and_the_kind_of_input_is_named(name):
    fn, mode, kind = WRONG[name]
    with pytest.raises(ContractError, match=kind):
        check_rounding(fn, mode)


def test_a_float32_sum_is_caught_at_the_number_below_one_half():
    def by_sum(x):
        # Right but for the carry: the sum is rounded to float32 before the floor.
        return int(np.copysign(np.floor(np.float32(abs(x)) + np.float32(0.5)), np.float32(x)))

    with pytest.raises(ContractError, match="one float32 step below the tie between 0 and 1"):
        check_rounding(by_sum, "nearest_away", largest=2.0**22)


@pytest.mark.parametrize(("takes", "fn"), [("torch", torch.round), ("numpy", np.rint)])
def test_functions_of_arrays(takes, fn):
    check_rounding(fn, "nearest_even", takes=takes)
    with pytest.raises(ContractError):
        check_rounding(fn, "nearest_away", takes=takes)


def test_the_largest_input_is_kept():
    seen = []

    def note(x):
        seen.append(abs(x))
        return round(x)

    check_rounding(note, "nearest_even", largest=100.0)
    assert 50 < max(seen) <= 100


def test_what_the_function_raises_is_a_failure_with_its_input():
    def divides(x):
        return round(x) + 0 // (round(x) - 3)

    with pytest.raises(ContractError, match=r"divides raised ZeroDivisionError(.|\n)*x = ") as caught:
        check_rounding(divides, "nearest_even")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_function_that_is_not_one_is_said_so():
    calls = []

    def unsteady(x):
        calls.append(x)
        return round(x) + (abs(x) > 3 and len(calls) % 2)

    with pytest.raises(ContractError, match="at one time and not at another|does not round"):
        check_rounding(unsteady, "nearest_even")


def test_the_same_inputs_come_each_time_unless_asked():
    def inputs(**options):
        seen = []
        check_rounding(lambda x: (seen.append(x), round(x))[1], "nearest_even", max_examples=40, **options)
        return seen

    assert inputs() == inputs()
    assert inputs(deterministic=False) != inputs(deterministic=False)
    assert len(inputs()) >= 40
    assert set(TRAPS) <= set(inputs())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "nearest"}, "unknown rounding mode 'nearest'"),
        ({"mode": "stochastic"}, "random_bits"),
        ({"mode": RoundingMode.DOWN, "random_bits": 3}, "draws no random bits"),
        ({"mode": "down", "largest": 0.0}, "largest is a positive number"),
        ({"mode": "down", "takes": "jax"}, "takes is 'float', 'numpy' or 'torch'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        check_rounding(round, **options)
