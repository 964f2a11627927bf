import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.study.quantities import counted, exactly, with_prefix


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "", "0"),
        (0, "J", "0 J"),
        (529403, "", "529k"),
        (4333565, "", "4.33M"),
        (4.8297e-3, "J", "4.83 mJ"),
        (206e-6, "J", "206 µJ"),
        (74.44e-6, "J", "74.4 µJ"),
        (0.0354, "s", "35.4 ms"),
        (2.44, "s", "2.44 s"),
        (3.2e-15, "J", "0.00 pJ"),
        (5e15, "", "5.00P"),
        (1.2345e27, "B", "1.23 RB"),
        (9.99e32, "J", "999 QJ"),
        (9.999e32, "", "1.00e+33"),
        (4e40, "J", "4.00e+40 J"),
    ],
)
def test_three_digits_and_a_prefix(value, unit, text):
    assert with_prefix(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"), [(999.4, "999"), (999.6, "1.00k"), (999_949, "1.00M"), (9.996, "10.0"), (99.96, "100")]
)
def test_rounding_up_moves_to_the_next_digit_or_prefix(value, text):
    assert with_prefix(value) == text


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (999, "999"), (1000, "1.00k"), (0, "0")])
def test_counts_have_no_prefix_below_a_thousand(value, text):
    assert with_prefix(value, smallest=0) == text


def test_a_negative_quantity_is_refused():
    with pytest.raises(ValueError, match="not negative, got -1"):
        with_prefix(-1)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (5548984, "5,548,984"), (10**12 - 1, "999,999,999,999"), (10**12, "1.00T"), (10**27, "1.00R")],
)
def test_a_count_is_exact_as_long_as_it_can_be_read(count, text):
    assert exactly(count) == text


@given(st.floats(1e-12, 1e14))
def test_the_text_is_within_half_a_unit_of_the_third_digit(value):
    text = with_prefix(value)
    factors = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}
    number, factor = (text[:-1], factors[text[-1]]) if text[-1] in factors else (text, 1.0)
    assert float(number) * factor == pytest.approx(value, rel=0.0051)
    assert len(number.replace(".", "")) == 3


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1000, "1000 images")]
)
def test_one_is_singular(count, text):
    assert counted(count, "image") == text
