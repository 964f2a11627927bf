"""What a Rounding accepts and refuses."""

import pytest

from lowbit_sim.numerics.rounding import MODE_CODES, Rounding, RoundingMode


def test_defaults() -> None:
    assert Rounding() == Rounding("nearest_even", "saturate", 0)


@pytest.mark.parametrize("mode", RoundingMode)
def test_a_mode_and_its_name_are_the_same_thing(mode: RoundingMode) -> None:
    bits = 8 if mode is RoundingMode.STOCHASTIC else 0
    assert Rounding(mode, random_bits=bits) == Rounding(mode.value, random_bits=bits)
    assert Rounding(mode.value, random_bits=bits).is_stochastic == (mode is RoundingMode.STOCHASTIC)


def test_kernels_know_every_mode_by_its_own_number() -> None:
    assert sorted(MODE_CODES) == sorted(mode.value for mode in RoundingMode)
    assert len(set(MODE_CODES.values())) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nearest",), "unknown rounding mode 'nearest': known are .*toward_zero.*did you mean 'nearest_"),
        (("floor",), "unknown rounding mode 'floor'"),
        (("nearest_even", "clip"), "unknown overflow 'clip': known are infinity, saturate, wrap"),
        (("stochastic",), "random_bits from 1 to 32, got 0"),
        (("stochastic", "saturate", 33), "got 33"),
        (("stochastic", "saturate", -1), "got -1"),
        (("nearest_even", "saturate", 8), "'nearest_even' draws no random bits, got random_bits=8"),
        (("down", "saturate", -1), "'down' draws no random bits, got random_bits=-1"),
    ],
)
def test_impossible_rounding(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rounding(*arguments)


@pytest.mark.parametrize("bits", [1, 32])
def test_limits_of_random_bits(bits: int) -> None:
    assert Rounding("stochastic", random_bits=bits).random_bits == bits
