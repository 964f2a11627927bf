"""Points, their errors and their statistics."""

import math
import re

import pytest

from hw_models.validation.table import (
    Comparison,
    Point,
    by_suite,
    grouped,
    number,
    percent,
    statistics,
    to_json,
)


def point(published: float, modelled: float, **more: str) -> Point:
    texts = {
        "source": "a paper",
        "machine": "m",
        "workload": "net: layer",
        "quantity": "cycles",
        "unit": "cycles",
    }
    return Point(**(texts | more), published=published, modelled=modelled)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("published", "modelled", "error"),
    [
        (100, 110, 10),
        (100, 90, -10),
        (50, 50, 0),
        (0, 0, 0),
        (0, 2, math.inf),
        (0, -2, -math.inf),
        (-4, -5, 25),
    ],
)
def test_error_is_signed_and_in_percent_of_the_published_value(published, modelled, error):
    assert point(published, modelled).error == pytest.approx(error)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(
        ValueError, match=re.escape("modelled is a finite number, got nan (net: layer, cycles)")
    ):
        point(1.0, math.nan)


def test_exact_allows_for_the_rounding_of_floats_alone():
    assert point(0.3, 0.1 + 0.2).is_exact
    assert not point(1e6, 1e6 + 1).is_exact


@pytest.mark.parametrize(
    ("limit", "modelled", "kept"),
    [
        ("", 1, True),
        ("at least", 9, False),
        ("at least", 10, True),
        ("at most", 10, True),
        ("at most", 11, False),
    ],
)
def test_limits(limit, modelled, kept):
    assert point(10, modelled, limit=limit).keeps_limit is kept


def test_statistics_are_over_magnitudes_and_leave_limits_out():
    found = statistics([point(100, 90), point(100, 130), point(100, 100), point(1, 9, limit="at least")])
    assert found is not None
    assert (found.points, found.exact) == (3, 1)
    assert (found.median_percent, found.largest_percent) == pytest.approx((10, 30))
    assert statistics([point(1, 9, limit="at least")]) is None


def test_a_suite_is_the_workload_up_to_its_colon():
    groups = grouped(
        [point(1, 1), point(2, 2, workload="net: other"), point(3, 3, workload="gemm")], by_suite
    )
    assert {key: len(points) for key, points in groups.items()} == {("m", "net"): 2, ("m", "gemm"): 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.0, "1,234,567"), (12345.6, "12,346"), (17.3478, "17.35"), (0.00123, "0.00123")],
)
def test_numbers_have_few_digits(value, text):
    assert number(value) == text


def test_percentages_are_signed():
    assert [percent(v) for v in (0.0, 0.04, 3.14, -7.66)] == ["0", "0", "+3.1", "-7.7"]


def test_json_has_every_point_with_its_error():
    written = to_json({"a": Comparison(title="A", about="", points=lambda: [point(10, 11)])})
    assert [p["error_percent"] for p in written["a"]] == pytest.approx([10])
    assert written["a"][0]["workload"] == "net: layer"
