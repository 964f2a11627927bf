"""The definition itself, against sums worked out by hand."""

import pytest

from lowbit_sim.arith.backends.reference import add, dot
from lowbit_sim.arith.mac import MacUnit


@pytest.mark.parametrize(
    ("accumulator", "term", "overflow", "expected"),
    [
        (127, 1, "wrap", (-128, True)),
        (127, 1, "saturate", (127, True)),
        (-128, -1, "wrap", (127, True)),
        (-128, -1, "saturate", (-128, True)),
        (-128, -16129, "wrap", (-128 - 16129 + 64 * 256 - 128 + 128, True)),
        (100, 27, "wrap", (127, False)),
        (-100, -28, "saturate", (-128, False)),
    ],
)
def test_one_addition_in_eight_bits(accumulator, term, overflow, expected):
    value, overflowed = add(accumulator, term, 8, overflow)
    assert overflowed is expected[1]
    assert value == expected[0]
    if overflow == "wrap":
        assert (value - accumulator - term) % 256 == 0


def test_saturation_depends_on_order():
    mac = MacUnit(accumulator_bits=8, overflow="saturate")
    # 100 + 100 -> 127, then -100 -> 27; the other way round nothing is lost.
    assert dot([10, 10, 10], [10, 10, -10], mac) == (27, 1)
    assert dot([10, 10, 10], [10, -10, 10], mac) == (100, 0)


def test_wrapping_does_not():
    mac = MacUnit(accumulator_bits=8, overflow="wrap")
    assert dot([10, 10, 10], [10, 10, -10], mac)[0] == dot([10, 10, 10], [10, -10, 10], mac)[0] == 100


def test_each_chunk_starts_from_zero():
    mac = MacUnit(accumulator_bits=8, overflow="saturate", chunk=2, outer_bits=16)
    # Chunks: 100 + 100 -> 127 (one overflow), 100 + 0 = 100; outer 127 + 100.
    assert dot([10, 10, 10, 0], [10, 10, 10, 9], mac) == (227, 1)


def test_the_outer_accumulator_overflows_too():
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=1, outer_bits=8)
    assert dot([10, 10, 10], [10, 10, -10], mac) == (27, 1)


def test_an_outer_accumulator_without_chunks_takes_the_one_sum():
    assert dot([100, 100], [100, 100], MacUnit(accumulator_bits=32, overflow="saturate", outer_bits=8)) == (
        127,
        1,
    )


def test_an_empty_sum_is_zero():
    assert dot([], [], MacUnit(chunk=4)) == (0, 0)
