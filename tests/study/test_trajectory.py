import math
import statistics

import pytest

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.trajectory import last_values, measurement_names, trajectory
from lowbit_sim.study.trajectory_picture import trajectory_picture
from lowbit_sim.study.trajectory_plot import trajectory_figure, trajectory_html
from tests.study.examples import arm, measured_run, run

GAIN = "metagrad.gain"


@pytest.fixture
def measured():
    return arm("MetaGrad", (measured_run(0, [1.0, 2.0, 4.0]), measured_run(1, [3.0, 2.0])))


def test_mean_and_deviation_over_the_runs_that_have_a_value(measured):
    points = trajectory(measured, GAIN)
    assert [(p.epoch, p.mean, p.runs) for p in points] == [(1, 2.0, 2), (2, 2.0, 2), (3, 4.0, 1)]
    assert [p.deviation for p in points] == [statistics.stdev([1.0, 3.0]), 0.0, 0.0]
    assert last_values(measured, GAIN) == [4.0, 2.0]


def test_what_every_epoch_has_is_a_trajectory_too(measured):
    assert [p.mean for p in trajectory(measured, "test_loss")] == [0.6, 0.6, 0.6]


def test_values_that_are_not_finite_or_not_there_are_left_out():
    broken = arm("x", (measured_run(0, [math.nan, 1.0]), measured_run(1, [5.0, math.inf]), run(2)))
    assert [(p.epoch, p.mean, p.runs) for p in trajectory(broken, GAIN)] == [(1, 5.0, 1), (2, 1.0, 1)]
    assert trajectory(arm("none"), GAIN) == []


def test_the_names_of_what_was_measured(measured):
    assert measurement_names([arm("plain", (run(0),)), measured]) == [GAIN]


def test_the_figure_has_a_line_with_its_band_for_each_arm_and_panel(measured):
    pytest.importorskip("plotly")
    arms = {"plain": arm("plain", (run(0),)), "MetaGrad": measured}
    figure = trajectory_figure("title", arms, [GAIN, "test_accuracy"])
    lines = [trace for trace in figure.data if trace.mode]
    assert [(t.name, tuple(t.x), tuple(t.y)) for t in lines] == [
        ("MetaGrad", (1, 2, 3), (2.0, 2.0, 4.0)),
        ("plain", (1,), (0.9,)),
        ("MetaGrad", (1, 2, 3), (0.9, 0.9, 0.9)),
    ]
    assert [t.showlegend for t in lines] == [True, True, False]
    deviation = statistics.stdev([1.0, 3.0])
    assert tuple(figure.data[0].x) == (1, 2, 3, 3, 2, 1)
    assert tuple(figure.data[0].y) == (2 + deviation, 2.0, 4.0, 4.0, 2.0, 2 - deviation)


def test_the_page_holds_its_script_and_by_default_all_measurements(measured):
    pytest.importorskip("plotly")
    page = trajectory_html("a study", {"MetaGrad": measured})
    assert "a study" in page
    assert GAIN in page
    assert "plotly.js" in page


def test_what_can_not_be_plotted_is_named(measured):
    pytest.importorskip("plotly")
    with pytest.raises(
        StudyError, match="no recipe of these arms measured anything.*--measurement test_accuracy"
    ):
        trajectory_figure("x", {"plain": arm("plain", (run(0),))})
    with pytest.raises(StudyError, match="unknown measurement 'metagrad.gian'.*did you mean 'metagrad.gain'"):
        trajectory_figure("x", {"MetaGrad": measured}, ["metagrad.gian"])


def test_a_picture_names_its_arms_and_equal_results_give_equal_bytes(measured):
    pytest.importorskip("matplotlib")
    arms = {"plain": arm("plain", (run(0),)), "MetaGrad": measured}
    drawn = trajectory_picture("a study", arms, [GAIN, "test_accuracy"], format="svg")
    for text in (b"a study", b"MetaGrad", b"plain", GAIN.encode(), b"test_accuracy", b"epochs"):
        assert text in drawn
    assert drawn == trajectory_picture("a study", arms, [GAIN, "test_accuracy"], format="svg")
    assert drawn != trajectory_picture("a study", {"plain": arms["plain"]}, ["test_accuracy"], format="svg")


def test_a_picture_needs_what_was_measured(measured):
    pytest.importorskip("matplotlib")
    with pytest.raises(StudyError, match="unknown measurement 'gian'"):
        trajectory_picture("x", {"MetaGrad": measured}, ["gian"], format="svg")
