import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.additions import additions
from lowbit_sim.arith.backends.reference import dot
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.testing import mac_units

CODES = st.lists(st.tuples(st.integers(-128, 127), st.sampled_from([-128, 127, 3])), max_size=20)


@given(CODES, mac_units(widest=24))
def test_the_additions_lead_to_the_references_result_and_overflows(pairs, mac):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    value, log = additions(a, b, mac)
    assert (value, sum(step.overflowed for step in log)) == dot(a, b, mac)
    assert all(step.overflowed == (step.value != step.before + step.term) for step in log)


def test_a_chunked_sum_by_hand():
    mac = MacUnit(accumulator_bits=8, overflow="saturate", chunk=2, outer_bits=9, truncated_bits=1)
    value, log = additions([100, 1, 1], [1, 100, -3], mac)
    shown = [(s.accumulator, s.chunk, s.last, s.before, s.term, s.value, s.overflowed) for s in log]
    assert shown == [
        ("inner", 0, 0, 0, 100, 100, False),
        ("inner", 0, 1, 100, 100, 127, True),
        ("outer", 0, 1, 0, 63, 63, False),
        ("inner", 1, 2, 0, -3, -3, False),
        ("outer", 1, 2, 63, -2, 61, False),
    ]
    assert value == 122


def test_a_tree_by_hand():
    value, log = additions(
        [100, 100, -100], [1, 1, 1], MacUnit(accumulator_bits=8, overflow="wrap", order="tree")
    )
    assert [(s.last, s.before, s.term, s.value) for s in log] == [
        (0, 0, 100, 100),
        (1, 0, 100, 100),
        (2, 0, -100, -100),
        (1, 100, 100, -56),
        (2, -56, -100, 100),
        (2, 0, 100, 100),
    ]
    assert value == 100


def test_vectors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter|longer"):
        additions([1, 2], [1], MacUnit())
