"""The comparisons together."""

import re
from pathlib import Path

import pytest

import hw_models
from hw_models.validation.comparisons import COMPARISONS, comparisons

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_has_points_and_keeps_its_limits(name):
    points = COMPARISONS[name].points()
    assert points
    assert [p for p in points if not p.keeps_limit] == []
    # The two groups of a grouped convolution may be two rows of one name.
    named = {(p.machine, p.workload, p.quantity, p.limit, p.note): p.published for p in points}
    assert all(p.published == named[p.machine, p.workload, p.quantity, p.limit, p.note] for p in points), (
        "two points of one name have different published values"
    )


def test_comparisons_by_name():
    assert list(comparisons(["tpu", "gemmini"])) == ["gemmini", "tpu"]
    assert comparisons() == COMPARISONS
    with pytest.raises(ValueError, match=re.escape("unknown comparison 'gemini'")):
        comparisons(["gemini"])


def test_a_module_that_compares_is_in_the_table():
    folder = ROOT / "hw_models" / "validation"
    comparing = {p.stem for p in folder.glob("*.py") if "def points(" in p.read_text()}
    assert comparing == set(COMPARISONS)


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_every_profile_says_what_it_was_compared_with_or_that_it_was_not(name):
    machines = {p.machine.split()[0] for c in COMPARISONS.values() for p in c.points()}
    says = hw_models.load(name).machine.validation
    assert says.startswith("not validated") or name in machines or "peak rate" in says, says
