import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from lowbit_sim.arith.float_additions import float_additions
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_reference import run
from lowbit_sim.numerics.catalog import FP8_E4M3FN, FP16
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from tests.arith.float_strategies import float_mac_units, float_operands, same_bits


@given(float_operands(), float_mac_units(), st.integers(0, 1000))
def test_the_additions_lead_to_the_references_results_and_counts(operands, mac, offset):
    a, b = operands
    stream = Stream(seed=1, offset=offset)
    try:
        expected = run(mac, a, b, stream)
    except ValueError:
        reject()  # a NaN in a format without
    values, overflows, swamped = expected.values.clone().fill_(7.0), 0, 0
    per_result = mac.additions(a.shape[1])
    for m, row in enumerate(a.tolist()):
        for n, column in enumerate(b.t().tolist()):
            first = (m * b.shape[1] + n) * per_result
            values[m, n], log = float_additions(row, column, mac, stream=stream, first=first)
            assert len(log) == per_result
            overflows += sum(step.overflowed for step in log)
            swamped += sum(step.swamped for step in log)
    assert same_bits(values, expected.values)
    assert (overflows, swamped) == (expected.overflows, expected.swamped)


def shown(log):
    return [(s.accumulator, s.part, s.chunk, s.last, s.before, s.term, s.value) for s in log]


def test_chunks_by_hand():
    mac = FloatMacUnit(accumulator=FP8_E4M3FN, chunk=2, outer=FP16)
    value, log = float_additions([16.0, 1.0, 448.0], [1.0, 1.0, 2.0], mac)
    assert shown(log)[:3] == [
        ("inner", "sum", 0, 0, 0.0, 16.0, 16.0),
        ("inner", "sum", 0, 1, 16.0, 1.0, 16.0),  # 17 lies halfway between 16 and 18
        ("outer", "sum", 0, 1, 0.0, 16.0, 16.0),
    ]
    assert [(s.accumulator, s.overflowed, s.swamped) for s in log[1:]] == [
        ("inner", False, True),
        ("outer", False, False),
        ("inner", True, False),
        ("outer", False, False),
    ]
    assert value != value  # FP8 E4M3 has NaN for an infinity


def test_a_tree_by_hand():
    _, log = float_additions([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], FloatMacUnit(order="tree"))
    assert [(s.last, s.before, s.term, s.value) for s in log] == [
        (1, 1.0, 2.0, 3.0),
        (3, 3.0, 4.0, 7.0),
        (3, 3.0, 7.0, 10.0),
        (4, 10.0, 5.0, 15.0),
        (4, 0.0, 15.0, 15.0),
    ]


def test_compensated_summation_by_hand():
    value, log = float_additions(
        [16.0, 1.0, 1.0], [1.0] * 3, FloatMacUnit(accumulator=FP8_E4M3FN, kahan=True)
    )
    assert shown(log)[4:] == [
        ("inner", "corrected", 0, 1, 1.0, 0.0, 1.0),
        ("inner", "sum", 0, 1, 16.0, 1.0, 16.0),
        ("inner", "gained", 0, 1, 16.0, -16.0, 0.0),
        ("inner", "correction", 0, 1, 0.0, -1.0, -1.0),
        ("inner", "corrected", 0, 2, 1.0, 1.0, 2.0),
        ("inner", "sum", 0, 2, 16.0, 2.0, 18.0),
        ("inner", "gained", 0, 2, 18.0, -16.0, 2.0),
        ("inner", "correction", 0, 2, 2.0, -2.0, 0.0),
    ]
    assert value == 18.0


def test_random_integers_are_shown_where_there_are_any():
    mac = FloatMacUnit(rounding=Rounding("stochastic", random_bits=4, overflow="infinity"))
    _, log = float_additions([1.0, 2.0], [1.0, 1.0], mac, stream=Stream(seed=1))
    assert {step.random for step in log} <= set(range(16))
    _, log = float_additions([1.0], [1.0], FloatMacUnit())
    assert log[0].random is None
    with pytest.raises(ValueError, match="random bits"):
        float_additions([1.0], [1.0], mac)


def test_vectors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length, got 2 and 1"):
        float_additions([1.0, 2.0], [1.0], FloatMacUnit())
