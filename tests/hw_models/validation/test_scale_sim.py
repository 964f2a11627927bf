"""SCALE-Sim: every row exactly."""

from collections import Counter
from functools import cache

import pytest

from hw_models.validation.scale_sim import cases, points
from hw_models.validation.table import Point

QUANTITIES = (
    "schedule cycles",
    "mapping efficiency",
    "utilisation",
    "SRAM reads of inputs",
    "SRAM reads of filters",
    "SRAM writes of outputs",
)


@cache
def _points() -> tuple[Point, ...]:
    return tuple(points())


def test_the_reference_has_all_its_rows():
    assert len(cases()) == 541
    assert Counter(case.dataflow for case in cases()) == {"os": 182, "is": 181, "ws": 178}
    utilised = sum(case.utilization_percent is not None for case in cases())
    assert utilised == 291
    assert len(_points()) == 5 * 541 + utilised


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_row_is_exact(quantity):
    mine = [p for p in _points() if p.quantity == quantity]
    assert mine
    assert [p for p in mine if not p.is_exact] == []


@pytest.mark.parametrize(
    "quantity", [q for q in QUANTITIES if q.endswith(("cycles", "inputs", "filters", "outputs"))]
)
def test_counts_are_equal_to_the_last_digit(quantity):
    assert [p for p in _points() if p.quantity == quantity and p.published != p.modelled] == []
