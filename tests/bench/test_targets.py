import pytest

from benchmarks.targets import (
    Target,
    at_least_bandwidth,
    at_least_speed,
    at_most_memory,
    at_most_seconds,
    at_most_time,
)

AT_MOST = [at_most_time(2, "x"), at_most_memory(2, "x"), at_most_seconds(2)]
AT_LEAST = [at_least_speed(2, "x"), at_least_bandwidth(2, "x")]


@pytest.mark.parametrize("target", AT_MOST, ids=lambda t: t.quantity)
def test_at_most(target):
    assert [target.met_by(value) for value in (1.99, 2.0, 2.01)] == [True, True, False]


@pytest.mark.parametrize("target", AT_LEAST, ids=lambda t: t.quantity)
def test_at_least(target):
    assert [target.met_by(value) for value in (1.99, 2.0, 2.01)] == [False, True, True]


def test_words():
    assert at_most_time(1.15, "torch._int_mm").words == "at most 1.15 x torch._int_mm"
    assert at_least_speed(30, "qtorch").words == "at least 30 times faster than qtorch"


def test_a_comparison_needs_the_other():
    with pytest.raises(ValueError, match="'time' with against=None"):
        Target(quantity="time", limit=1.0)


def test_seconds_are_compared_with_none():
    with pytest.raises(ValueError, match="'seconds' with against='torch'"):
        Target(quantity="seconds", limit=1.0, against="torch")
