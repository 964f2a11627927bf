import json

import pytest

from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.study.results import arm_status, difference, time_ratio, to_dict
from tests.study.examples import arm, native_arm, result, run


def test_mean_and_sample_deviation_over_runs():
    subject = arm(runs=(run(0, 0.90), run(1, 0.94)))
    assert subject.mean_accuracy == pytest.approx(0.92)
    assert subject.accuracy_deviation == pytest.approx(0.02 * 2**0.5)


def test_one_run_has_no_spread_and_none_has_no_mean():
    assert arm(runs=(run(),)).accuracy_deviation is None
    assert arm().mean_accuracy is None
    assert arm().seconds_per_step is None


def test_a_diverged_run_does_not_count_for_the_accuracy():
    subject = arm(runs=(run(0, 0.8), run(1, None)))
    assert subject.mean_accuracy == 0.8
    assert subject.accuracy_deviation is None


def test_the_time_of_a_step_is_the_median_so_that_a_compilation_does_not_show():
    assert arm(runs=(run(0), run(1))).seconds_per_step == 0.012


def test_overflows_are_summed_over_epochs_and_runs():
    subject = arm(runs=(run(0, additions=100, overflows=1), run(1, additions=300, overflows=5)))
    assert subject.overflow_share == 6 / 400


def test_lost_operands_are_summed_over_epochs_and_runs():
    first, second = OperandCounts(elements=100, clipped=3), OperandCounts(elements=300, underflowed=7)
    subject = arm(runs=(run(0, operands=first), run(1, operands=second)))
    assert subject.operands_lost == OperandCounts(elements=400, clipped=3, underflowed=7)
    lost = to_dict(result(subject))["arms"][0]["operands_lost"]
    assert lost == {"elements": 400, "clipped": 3, "underflowed": 7}


def test_overflows_that_were_not_counted_are_not_guessed():
    assert (
        arm(runs=(run(0, additions=100, overflows=1), run(1, additions=100, overflows=None))).overflow_share
        is None
    )
    assert native_arm(runs=(run(),)).overflow_share is None


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ((), "not run"),
        ((run(0), run(1)), "ok"),
        ((run(0),), "1 of 2 not run"),
        ((run(0, None), run(1, None)), "diverged"),
        ((run(0), run(1, None)), "diverged 1 of 2"),
        ((run(0, 0.1), run(1, 0.12)), "chance level"),
        ((run(0, 0.1), run(1, None)), "diverged 1 of 2, chance level 1 of 2"),
    ],
)
def test_the_status_says_what_happened_in_how_many_runs(runs, status):
    assert arm_status(arm(runs=runs), result()) == status


def test_chance_is_guessing_and_three_deviations():
    # p = 0.1, n = 355: 0.1 + 3 sqrt(0.09 / 355) = 0.14777
    study = result()
    assert study.chance_limit == pytest.approx(0.14777, abs=1e-5)
    assert arm_status(arm(runs=(run(0, 0.1477), run(1, 0.1477))), study) == "chance level"
    assert arm_status(arm(runs=(run(0, 0.1479), run(1, 0.1479))), study) == "ok"


def test_the_baseline_is_the_first_native_arm():
    native = native_arm((run(0, 0.9),))
    assert result(arm(), native).baseline == native
    assert result(arm()).baseline is None


def test_differences_and_ratios_need_both_sides():
    native, other = native_arm((run(0, 0.9),)), arm(runs=(run(0, 0.8),))
    assert difference(other, native) == pytest.approx(-0.1)
    assert time_ratio(other, native) == 1.0
    assert difference(other, None) is time_ratio(other, None) is None
    assert difference(arm(), native) is time_ratio(arm(), native) is None


def test_the_dictionary_is_json_with_everything_in_it():
    study = result(
        native_arm((run(0, 0.9), run(1, None))), arm(runs=(run(0, 0.8, additions=10, overflows=1),))
    )
    table = json.loads(json.dumps(to_dict(study)))
    native, other = table["arms"]
    assert (native["status"], other["status"]) == ("diverged 1 of 2", "1 of 2 not run")
    assert native["runs"][1]["reason"] == "epoch 1: the training loss is nan"
    assert other["difference_to_baseline"] == pytest.approx(-0.1)
    assert other["overflow_share"] == 0.1
    assert other["runs"][0]["median_step_seconds"] == 0.012
    assert other["runs"][0]["epochs"][0]["test_accuracy"] == 0.8
