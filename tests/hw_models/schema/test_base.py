"""Figures, and tables that are equal have equal hashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hw_models.schema.base import Figure, FigureValue
from tests.hw_models.example import example

FIGURE = TypeAdapter(FigureValue)


@given(st.floats(0, 1e12) | st.integers(0, 10**12))
def test_a_bare_number_is_a_figure_of_three_equal_values(value):
    figure = FIGURE.validate_python(value)
    assert (figure.low, figure.nominal, figure.high) == (value, value, value)


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_a_range_is_a_figure_if_it_ascends(values):
    low, nominal, high = values
    table = {"low": low, "nominal": nominal, "high": high, "low_source": "a", "high_source": "b"}
    if low <= nominal <= high:
        assert FIGURE.validate_python(table) == Figure(**table)
    else:
        with pytest.raises(ValidationError, match="low <= nominal <= high"):
            FIGURE.validate_python(table)


@pytest.mark.parametrize("end", ["low", "high"])
def test_an_end_that_differs_names_its_source(end):
    table = {"low": 1.0, "nominal": 1.0, "high": 1.0} | {end: {"low": 0.5, "high": 2.0}[end]}
    with pytest.raises(ValidationError, match=f"{end}_source missing"):
        FIGURE.validate_python(table)
    assert FIGURE.validate_python(table | {f"{end}_source": "x"}).nominal == 1.0


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), True, "1", None, [1]], ids=str)
def test_what_is_no_figure(value):
    with pytest.raises(ValidationError, match="expected a"):
        FIGURE.validate_python(value)


def test_a_figure_reads_back_from_its_values():
    figure = FIGURE.validate_python(
        {"low": 1, "nominal": 2, "high": 3, "low_source": "a", "high_source": "b"}
    )
    assert FIGURE.validate_python(figure.model_dump()) == figure
    assert FIGURE.validate_python(figure) == figure


def test_equal_tables_have_equal_hashes_whatever_the_order_of_their_keys():
    one = example(("\nfrequency_hz", '\nsources.frequency_hz = "a"\nfrequency_hz'))
    other = example(("\nfrequency_hz", '\nsources = { frequency_hz = "a" }\nfrequency_hz'))
    assert one == other
    assert hash(one) == hash(other)
    assert hash(one.vector) == hash(other.vector)
    assert one != example()
    assert len({one, other, example()}) == 2


def test_tables_of_free_names_can_be_hashed():
    one = example(("#operations = { batch_norm = 4.0 }", "operations = { batch_norm = 4.0, loss = 2.0 }"))
    other = example(("#operations = { batch_norm = 4.0 }", "operations = { loss = 2.0, batch_norm = 4.0 }"))
    assert one == other
    assert hash(one) == hash(other)
