import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.backends.reference import dot
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.multipliers import kulkarni_multiplier
from tests.arith.strategies import mac_units, product_tables


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulator_bits": 7}, "accumulator_bits=7"),
        ({"accumulator_bits": 65}, "accumulator_bits=65"),
        ({"outer_bits": 7}, "outer_bits=7"),
        ({"outer_bits": 65}, "outer_bits=65"),
        ({"overflow": "saturated"}, "did you mean 'saturate'"),
        ({"chunk": -1}, "chunk=-1"),
        ({"overflow_at": "chunks"}, "did you mean 'chunk'"),
        ({"order": "trees"}, "did you mean 'tree'"),
        ({"truncated_bits": -1}, "truncated_bits=-1"),
        ({"truncated_bits": 1.0}, "truncated_bits=1.0"),
        ({"accumulator_bits": 16, "truncated_bits": 16}, "leaves nothing of accumulator_bits=16"),
        ({"accumulator_bits": 64, "truncated_bits": 1}, "needs 65 bits; at most 64"),
        ({"outer_bits": 60, "truncated_bits": 5, "overflow_at": "outer"}, "needs 65 bits"),
        ({"truncation": "up"}, "truncation='up' needs truncated_bits of 1 or more"),
        ({"truncated_bits": 2, "truncation": "stochastic"}, "unknown truncation 'stochastic'"),
        ({"truncated_bits": 2, "truncation": "nearest"}, "did you mean 'nearest_"),
    ],
)
def test_impossible_units_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MacUnit(**fields)


def test_products_are_a_table():
    with pytest.raises(TypeError, match="ProductTable or None, got list"):
        MacUnit(products=[[0]])


def test_what_truncates_may_have_no_inner_width():
    assert MacUnit(accumulator_bits=8, overflow_at="outer", truncated_bits=20).value_bits == 28


def test_result_has_the_outer_width():
    assert MacUnit(accumulator_bits=16).result_bits == 16
    assert MacUnit(accumulator_bits=16, outer_bits=24).result_bits == 24


@pytest.mark.parametrize(
    ("mac", "reduction", "additions"),
    [
        (MacUnit(), 10, 10),
        (MacUnit(), 0, 0),
        (MacUnit(chunk=4), 10, 13),
        (MacUnit(chunk=4), 8, 10),
        (MacUnit(chunk=16), 10, 11),
        (MacUnit(outer_bits=48), 10, 11),
        (MacUnit(chunk=4), 0, 0),
        # Chunks of 4, 4 and 2: a tree adds 4 + 3, 4 + 3 and 2 + 1 times.
        (MacUnit(order="tree"), 10, 19),
        (MacUnit(order="tree", chunk=4), 10, 17 + 3),
        (MacUnit(order="tree"), 0, 0),
        (MacUnit(overflow_at="chunk"), 10, 1),
        (MacUnit(overflow_at="chunk", chunk=4), 10, 3 + 3),
        (MacUnit(overflow_at="chunk", outer_bits=40), 10, 1 + 1),
        (MacUnit(overflow_at="outer"), 10, 1),
        (MacUnit(overflow_at="outer", chunk=4, order="tree"), 10, 3),
    ],
)
def test_additions_are_those_of_a_product_and_of_a_chunk(mac, reduction, additions):
    assert mac.additions(reduction) == additions


def test_ranges():
    assert accumulator_range(8) == (-128, 127)
    assert accumulator_range(64) == (-(2**63), 2**63 - 1)
    assert accumulator_range(8, "saturate") == (-128, 127)
    assert accumulator_range(8, "saturate_symmetric") == (-127, 127)


def test_names_say_what_the_unit_does():
    assert str(MacUnit()) == "32-bit wrap"
    assert str(MacUnit(outer_bits=48)) == "32-bit wrap into 48-bit"
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24)
    assert str(mac) == "16-bit saturate in chunks of 32 into 24-bit"
    mac = MacUnit(
        accumulator_bits=16,
        overflow="saturate_symmetric",
        chunk=8,
        outer_bits=20,
        overflow_at="chunk",
        truncated_bits=3,
        truncation="nearest_even",
        order="tree",
        products=kulkarni_multiplier(),
    )
    assert str(mac) == (
        "16-bit saturate_symmetric in chunks of 8 into 20-bit, overflow at chunk, "
        "3 low bits rounded nearest_even, adder tree, products kulkarni (8-bit signed)"
    )


@given(mac=mac_units(products=st.none() | product_tables))
def test_different_units_have_different_names(mac):
    """A table's name does not tell all of it, so tables are left out."""
    for change in ({"overflow": "saturate"}, {"order": "tree"}, {"overflow_at": "chunk"}, {"chunk": 9}):
        try:
            other = dataclasses.replace(mac, **change)
        except ValueError:  # bits to truncate that the other rule does not allow
            continue
        assert (str(other) == str(mac)) is (other == mac)


@given(mac=mac_units(products=st.none() | product_tables), reduction=st.integers(0, 70))
def test_no_more_overflows_than_additions(mac, reduction):
    low, high = mac.products.code_range if mac.products else (-(2**16) + 1, 2**16 - 1)
    for a, b in ((low, low), (low, high), (high, high)):
        assert 0 <= dot([a] * reduction, [b] * reduction, mac)[1] <= mac.additions(reduction)
