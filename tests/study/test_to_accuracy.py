import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.to_accuracy import StepCost, to_accuracy, to_accuracy_dict
from lowbit_sim.study.to_accuracy_table import to_accuracy_csv, to_accuracy_table

ROOT = Path(__file__).parents[2]

STEP = {
    "machine": "box",
    "refusal": "",
    "cost": {"seconds": 0.5, "energy_pj": 2e12, "energy_low_pj": 1e12, "energy_high_pj": 4e12},
}
REFUSED = {"machine": "tiny", "refusal": "int8 is wider than its modes", "cost": None}


def run(seed: int, *accuracies: float, status: str = "completed", steps: int | None = None) -> dict[str, Any]:
    """A run of ten steps an epoch."""
    return {
        "seed": seed,
        "status": status,
        "steps": 10 * len(accuracies) if steps is None else steps,
        "epochs": [{"test_accuracy": accuracy} for accuracy in accuracies],
    }


def record(*runs: dict[str, Any], prices=(STEP,)) -> dict[str, Any]:
    return {"arms": [{"name": "int8", "runs": list(runs), "prices": list(prices)}]}


def shown(arms, width=120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(to_accuracy_table(arms, "to 90 %"))
    return console.export_text()


def test_steps_time_and_energy_by_hand():
    [arm] = to_accuracy(record(run(0, 0.5, 0.9, 0.95), run(1, 0.2, 0.3, 0.4), run(2, 0.1, 0.8, 0.91)), 0.9)
    assert [(r.seed, r.epochs, r.steps) for r in arm.runs] == [(0, 2, 20), (1, None, None), (2, 3, 30)]
    assert arm.reached == 2
    assert arm.epochs is not None
    assert arm.epochs.mean == 2.5
    assert arm.steps is not None
    assert arm.steps.mean == 25
    assert arm.steps.deviation == pytest.approx(50**0.5)
    [machine] = to_accuracy_dict(arm)["machines"]
    assert machine["seconds"] == {"mean": 12.5, "deviation": pytest.approx(50**0.5 / 2)}
    means = [machine[f"energy{end}_j"]["mean"] for end in ("_low", "", "_high")]
    assert means == pytest.approx([25, 50, 100])


def test_the_first_time_counts_even_if_the_accuracy_falls_again():
    [arm] = to_accuracy(record(run(0, 0.9, 0.1, 0.9)), 0.9)
    assert arm.runs[0].epochs == 1


def test_exactly_the_accuracy_is_reached():
    [arm] = to_accuracy(record(run(0, 0.97)), 97 / 100)
    assert arm.reached == 1


def test_one_seed_has_no_spread():
    [arm] = to_accuracy(record(run(0, 0.9)), 0.9)
    assert arm.steps is not None
    assert arm.steps.deviation is None
    assert "1.0 ±" not in shown([arm])
    assert "1.0 ± 0.0" in shown(to_accuracy(record(run(0, 0.9), run(1, 0.9)), 0.9))


def test_a_row_stays_in_one_line_of_100_columns():
    arms = to_accuracy(record(run(0, 0.1, 0.9), run(1, *[0.1] * 11, 0.9), run(2, 0.9)), 0.9)
    text = shown(arms, width=100)
    [line] = [line for line in text.splitlines() if "int8" in line]
    assert [cell.strip() for cell in line.split("│")[3:-1]] == [
        *("3 of 3", "5.0 ± 6.1", "50", "25.0 s", "100 J", "50.0 - 200 J")
    ]


def test_not_reached_is_said_with_the_best_accuracy():
    arms = to_accuracy(record(run(0, 0.5, 0.7), run(1, 0.6, 0.1)), 0.9)
    assert to_accuracy_dict(arms[0])["machines"][0]["seconds"] is None
    text = shown(arms)
    assert "0 of 2" in text
    assert "not reached" in text
    assert "int8: the best accuracy of any epoch is 70.00 %" in text


def test_a_diverged_run_counts_its_epochs_and_not_its_last_steps():
    """It stopped within its third epoch; the length of an epoch is a completed run's."""
    stopped = run(0, 0.5, 0.95, status="diverged", steps=27)
    [arm] = to_accuracy(record(stopped, run(1, 0.5, 0.95)), 0.9)
    assert [r.steps for r in arm.runs] == [20, 20]


def test_without_a_completed_run_the_length_of_an_epoch_is_unknown():
    with pytest.raises(StudyError, match="how many steps an epoch has"):
        to_accuracy(record(run(0, 0.5, status="diverged")), 0.9)


def test_a_record_without_costs_is_refused_with_what_would_help():
    with pytest.raises(StudyError, match=r"no cost of a training step.*--profile"):
        to_accuracy(record(run(0, 0.9), prices=()), 0.9)


def test_other_costs_take_the_place_of_the_records():
    costs = {"int8": [StepCost(machine="mine", seconds=2.0, energy_pj=1.0)]}
    [arm] = to_accuracy(record(run(0, 0.9), prices=()), 0.9, costs)
    assert to_accuracy_dict(arm)["machines"][0]["seconds"]["mean"] == 20


def test_a_machine_that_can_t_run_the_arm_has_its_reason():
    arms = to_accuracy(record(run(0, 0.9), prices=(STEP, REFUSED)), 0.9)
    assert to_accuracy_dict(arms[0])["machines"][1] == {
        "machine": "tiny",
        "refusal": "int8 is wider than its modes",
    }
    assert "int8 on tiny: int8 is wider than its modes" in shown(arms)


@pytest.mark.parametrize("accuracy", [0.0, -0.1, 1.01, 97.0])
def test_an_accuracy_that_can_t_be_is_refused(accuracy):
    with pytest.raises(StudyError, match="above 0 and at most 100 %"):
        to_accuracy(record(run(0, 0.9)), accuracy)


@pytest.mark.parametrize("wrong", [{}, {"arms": [{}]}, {"arms": 3}, {"arms": [{"runs": [{"seed": 1}]}]}])
def test_what_is_no_record_is_refused(wrong):
    with pytest.raises(
        StudyError, match=r"the file is not a record of lowbit-sim compare: (it has no )?arms"
    ):
        to_accuracy(wrong, 0.9)


def test_the_csv_has_a_line_for_each_seed_and_machine():
    arms = to_accuracy(record(run(0, 0.9), run(1, 0.1), prices=(STEP, REFUSED)), 0.9)
    rows = list(csv.DictReader(io.StringIO(to_accuracy_csv(arms))))
    assert [(r["machine"], r["seed"], r["steps"], r["seconds"]) for r in rows] == [
        ("box", "0", "10", "5.0"),
        ("box", "1", "", ""),
        ("tiny", "0", "10", ""),
        ("tiny", "1", "", ""),
    ]
    assert float(rows[0]["energy_low_j"]) == pytest.approx(10)
    assert float(rows[0]["energy_high_j"]) == pytest.approx(40)


def test_a_cost_without_a_range_shows_a_dash_and_no_invented_ends():
    bare = {"machine": "old", "refusal": "", "cost": {"seconds": 1.0, "energy_pj": 1e12}}
    arms = to_accuracy(record(run(0, 0.9), prices=(bare,)), 0.9)
    machine = to_accuracy_dict(arms[0])["machines"][0]
    assert machine["energy_j"]["mean"] == pytest.approx(10)
    assert machine["energy_low_j"] is machine["energy_high_j"] is None
    assert next(csv.DictReader(io.StringIO(to_accuracy_csv(arms))))["energy_low_j"] == ""


def test_a_real_record():
    """Against the figures in the file: seeds, accuracies and the price of a step."""
    known = json.loads((ROOT / "experiments/records/digits_5_seeds.json").read_text(encoding="utf-8"))
    for arm, table in zip(to_accuracy(known, 0.97), known["arms"], strict=True):
        assert arm.arm == table["name"]
        for reached, ran in zip(arm.runs, table["runs"], strict=True):
            accuracies = [epoch["test_accuracy"] for epoch in ran["epochs"]]
            if reached.epochs is None:
                assert max(accuracies) < 0.97
            else:
                assert reached.steps == reached.epochs * ran["steps"] / len(accuracies)
                assert accuracies[reached.epochs - 1] >= 0.97
                assert all(a < 0.97 for a in accuracies[: reached.epochs - 1])
        for cost, price in zip(arm.step_costs, table["prices"], strict=True):
            assert cost.machine == price["machine"]
            if price["cost"] is not None:
                assert (cost.seconds, cost.energy_pj) == (
                    price["cost"]["seconds"],
                    price["cost"]["energy_pj"],
                )
