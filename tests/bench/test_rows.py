from dataclasses import asdict

import pytest

from benchmarks.rows import Row, Work, works_of
from benchmarks.targets import (
    Target,
    at_least_bandwidth,
    at_least_speed,
    at_most_memory,
    at_most_seconds,
    at_most_time,
)
from tests.bench.reports import bench, raced, report


def test_a_ratio_is_of_the_shortest_rounds_that_ran_in_turn():
    """The second contender's own baseline counts, not the first one's shorter rounds."""
    [work] = works_of(
        report(raced(3.0, [2.0, 1.0, 5.0], "ours"), raced(8.0, [4.0, 6.0], "qtorch", ours=False))
    )
    assert (work.name, work.case) == ("quantise", "16M")
    assert [(row.implementation, row.ours, row.ratio) for row in work.rows] == [
        ("memory copy", False, 1.0),
        ("ours", True, 3.0),
        ("qtorch", False, 2.0),
    ]


def test_the_baseline_row_is_of_all_its_rounds():
    [work] = works_of(report(raced(3.0, [3.0, 1.0], "ours"), raced(8.0, [2.0, 4.0], "qtorch")))
    baseline = work.rows[0]
    assert (baseline.shortest_s, baseline.median_s, baseline.rounds) == (1.0, 2.5, 4)
    assert baseline.moved_bytes == 8


def test_two_baselines_of_one_work_are_an_error():
    other = raced(3.0, [1.0], "qtorch")
    other["extra_info"]["baseline"]["implementation"] = "numpy"
    with pytest.raises(ValueError, match="several baselines: memory copy, numpy"):
        works_of(report(raced(3.0, [1.0], "ours"), other))


def test_a_benchmark_that_names_no_work():
    [work] = works_of(report(bench(3.0, group="cost model")))
    assert (work.name, work.case) == ("cost model", "")
    assert (work.rows[0].implementation, work.rows[0].ours) == ("some[case]", True)
    assert work.rows[0].ratio is None


def test_seconds_measured_inside_replace_the_benchmarks_own():
    [work] = works_of(report(bench(0.1, work="first step", implementation="int8", seconds=[4.0, 2.0, 3.0])))
    [row] = work.rows
    assert (row.shortest_s, row.median_s, row.rounds) == (2.0, 3.0, 3)


def test_one_time_measured_inside_has_no_spread():
    [work] = works_of(report(bench(0.1, work="first step", implementation="int8", seconds=[4.0])))
    assert (work.rows[0].shortest_s, work.rows[0].median_s, work.rows[0].iqr_s) == (4.0, 4.0, 0.0)


def test_what_is_missing_is_a_row():
    gone = {"work": "quantise", "case": "16M", "implementation": "qtorch", "why": "No module named 'qtorch'"}
    [work] = works_of(report(raced(3.0, [1.0], "ours"), missing=[gone]))
    assert work.rows[-1] == Row(implementation="qtorch", missing="No module named 'qtorch'")


def row(name: str, **values) -> Row:
    return Row(implementation=name, **values)


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (at_most_time(1.0, "theirs"), 2.0 / 4.0),
        (at_least_speed(1.0, "theirs"), 4.0 / 2.0),
        (at_least_bandwidth(1.0, "theirs"), (5 / 8) / (2.0 / 4.0)),
        (at_most_memory(1.0, "theirs"), 300 / 200),
        (at_most_seconds(1.0), 0.5),
    ],
    ids=lambda given: given.quantity if isinstance(given, Target) else "",
)
def test_what_a_target_measures(target, value):
    ours = row("ours", ratio=2.0, shortest_s=0.5, moved_bytes=5, peak_bytes=300)
    theirs = row("theirs", ratio=4.0, shortest_s=100.0, moved_bytes=8, peak_bytes=200)
    assert Work(name="w", rows=(ours, theirs)).reached(ours, target) == value


def test_without_ratios_times_are_compared():
    ours, theirs = row("ours", shortest_s=1.0), row("theirs", shortest_s=4.0)
    assert Work(name="w", rows=(ours, theirs)).reached(ours, at_most_time(1, "theirs")) == 0.25


@pytest.mark.parametrize(
    "others", [(), (row("theirs", missing="not there"),)], ids=["no such row", "not installed"]
)
@pytest.mark.parametrize("target", [at_most_time(1, "theirs"), at_most_memory(1, "theirs")])
def test_nothing_is_reached_against_what_is_missing(target, others):
    ours = row("ours", ratio=2.0, shortest_s=1.0, peak_bytes=3)
    assert Work(name="w", rows=(ours, *others)).reached(ours, target) is None


def test_targets_come_through_a_report():
    target = at_least_bandwidth(0.5, "memory copy")
    [work] = works_of(report(raced(1.0, [1.0], "ours", moved_bytes=5, targets=[asdict(target)])))
    ours = work.rows[1]
    assert ours.targets == (target,)
    assert work.reached(ours, target) == 5 / 8
