"""The definition itself, against sums worked out by hand."""

import pytest

from lowbit_sim.arith.backends.reference import add, dot
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.products import ProductTable


@pytest.mark.parametrize(
    ("accumulator", "term", "overflow", "expected"),
    [
        (127, 1, "wrap", (-128, True)),
        (127, 1, "saturate", (127, True)),
        (-128, -1, "wrap", (127, True)),
        (-128, -1, "saturate", (-128, True)),
        (-128, -16129, "wrap", (-128 - 16129 + 64 * 256 - 128 + 128, True)),
        (-127, -1, "saturate_symmetric", (-127, True)),
        (-128, -1, "saturate_symmetric", (-127, True)),
        (127, 1, "saturate_symmetric", (127, True)),
        (-100, -27, "saturate_symmetric", (-127, False)),
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


def test_a_chunks_sum_is_exact_until_its_end():
    # 100 + 100 - 100 = 100 where only the end is looked at; the outer accumulator clips 100 + 100.
    fields = {"accumulator_bits": 8, "overflow": "saturate", "overflow_at": "chunk"}
    assert dot([10, 10, 10], [10, 10, -10], MacUnit(**fields)) == (100, 0)
    assert dot([10] * 3, [10] * 3, MacUnit(**fields)) == (127, 1)
    assert dot([10] * 4, [10] * 4, MacUnit(**fields, chunk=2)) == (127, 3)
    assert dot([10] * 4, [10] * 4, MacUnit(**fields, chunk=2, outer_bits=16)) == (254, 2)


def test_only_outer_additions_overflow():
    fields = {"accumulator_bits": 8, "overflow": "saturate", "overflow_at": "outer"}
    assert dot([10] * 4, [10] * 4, MacUnit(**fields, chunk=2, outer_bits=16)) == (400, 0)
    # 200 -> 127, then -200 -> -73.
    assert dot([10] * 4, [10, 10, -10, -10], MacUnit(**fields, chunk=2)) == (-73, 1)
    assert dot([10] * 4, [10, 10, -10, -10], MacUnit(**fields)) == (0, 0)


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        # Chunks of one product: 5, 6, 7, -6, -5 over 4 (1.25, 1.5, 1.75, -1.5, -1.25).
        ("down", 1 + 1 + 1 - 2 - 2),
        ("up", 2 + 2 + 2 - 1 - 1),
        ("toward_zero", 1 + 1 + 1 - 1 - 1),
        ("nearest_even", 1 + 2 + 2 - 2 - 1),
        ("nearest_away", 1 + 2 + 2 - 2 - 1),
    ],
)
def test_a_chunks_sum_loses_its_low_bits(truncation, expected):
    mac = MacUnit(chunk=1, truncated_bits=2, truncation=truncation)
    assert dot([5, 6, 7, -6, -5], [1] * 5, mac) == (4 * expected, 0)


def test_ties_of_truncation():
    for truncation, expected in (("nearest_even", [0, 2, 0, -2]), ("nearest_away", [1, 2, -1, -2])):
        mac = MacUnit(truncated_bits=1, truncation=truncation)
        assert [dot([x], [1], mac)[0] // 2 for x in (1, 3, -1, -3)] == expected


def test_the_outer_accumulator_counts_in_units_of_the_bits_lost():
    # 100 / 4 = 25 fits 8 bits five times; 600 / 4 > 127.
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=1, outer_bits=8, truncated_bits=2)
    assert dot([10] * 5, [10] * 5, mac) == (500, 0)
    assert dot([10] * 6, [10] * 6, mac) == (127 * 4, 1)


def test_a_tree_adds_neighbours():
    mac = MacUnit(accumulator_bits=8, overflow="saturate", order="tree")
    # (100 + 100) + (-100 - 100): both pairs clip, 127 - 128.
    assert dot([10] * 4, [10, 10, -10, -10], mac) == (-1, 2)
    # (100 - 100) + (100 - 100)
    assert dot([10] * 4, [10, -10, 10, -10], mac) == (0, 0)
    # One after the other: 100, 127, 27, -73.
    assert dot([10] * 4, [10, 10, -10, -10], MacUnit(accumulator_bits=8, overflow="saturate")) == (-73, 1)


def test_the_odd_one_out_moves_up():
    mac = MacUnit(accumulator_bits=8, overflow="saturate", order="tree")
    # ((60 + 60) + (60 + 0)) + -100: 180 clips to 127 before the last comes down.
    assert dot([60, 60, 60, 0, -100], [1] * 5, mac) == (27, 1)
    # 3 leaves: (100 + 27) + -100.
    assert dot([100, 27, -100], [1] * 3, mac) == (27, 0)
    # 6 leaves: ((a b) (c d)) (e f), not (a b) ((c d) (e f)): 120 + 120 clips.
    assert dot([120, 0, 120, 0, -120, 0], [1] * 6, mac) == (7, 1)


def test_a_product_enters_the_tree_in_the_accumulators_width():
    mac = MacUnit(accumulator_bits=8, overflow="saturate", order="tree")
    assert dot([20, 20], [10, -10], mac) == (127 - 128, 2)


def test_products_come_from_the_table():
    table = ProductTable(bits=2, signed=True, table=[[9, 1, 2, 3]] * 4)
    # Columns by bit pattern: 0, 1, -2, -1.
    assert dot([0, 1, -2, -1], [0, 1, -2, -1], MacUnit(products=table)) == (9 + 1 + 2 + 3, 0)
    with pytest.raises(ValueError, match="has codes -2 to 1, got 2"):
        dot([2], [0], MacUnit(products=table))
