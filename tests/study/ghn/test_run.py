import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lowbit_sim.ghn import load_hypernetwork
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.load import load_ghn_study
from lowbit_sim.study.ghn.record import is_ghn_record, read_ghn_result
from lowbit_sim.study.ghn.results import GhnResult
from lowbit_sim.study.ghn.run import run_ghn_study
from tests.study.ghn.examples import study


def without_time(result: GhnResult) -> list:
    """Everything that a clock does not decide."""
    return [
        (
            arm.name,
            [
                (
                    run.seed,
                    [(e.epoch, e.train_loss, e.train_accuracy, e.gradient_norm) for e in run.training.epochs],
                    run.scores,
                    run.fine_tunings,
                )
                for run in arm.runs
            ],
        )
        for arm in result.arms
    ] + [run.fine_tunings for run in result.random_starts]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[GhnResult, Path]:
    """A study that was not stopped."""
    outcome = run_ghn_study(study(), out=tmp_path_factory.mktemp("whole"))
    return outcome.result, outcome.folder.path


def test_a_study_has_every_network_at_every_precision(whole):
    result, folder = whole
    assert result.status == "completed"
    assert result.chance == 0.1
    assert result.splits == {"test": 2, "deep": 1}
    for arm in result.arms:
        [run] = arm.runs
        assert run.training.status == "completed"
        assert [(score.split, score.number) for score in run.scores] == [
            ("test", 0),
            ("test", 1),
            ("deep", 0),
        ]
        for score in run.scores:
            assert {p: set(by) for p, by in score.accuracies.items()} == {
                "W32A32": {"batch", "recalibrated"},
                "W4A4": {"batch", "recalibrated"},
            }
    assert [len(arm.runs[0].fine_tunings) for arm in result.arms] == [0, 1]
    assert [len(run.fine_tunings) for run in result.random_starts] == [1]
    assert sorted(path.name for path in folder.iterdir()) == [
        "environment.json",
        "hypernetworks",
        "metrics.jsonl",
        "result.json",
        "study.toml",
    ]


def test_the_record_holds_the_result_and_what_it_holds_for(whole):
    result, folder = whole
    assert is_ghn_record(folder)
    assert read_ghn_result(folder) == result
    record = json.loads((folder / "result.json").read_text())
    assert record["environment"]["code_sha256"]
    assert record["study"]["title"] == "tiny ghn"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["arm"], line["epoch"]) for line in lines] == [
        (arm, epoch) for arm in ("float", "noise") for epoch in (0, 1)
    ]


def test_the_trained_hypernetworks_are_kept(whole):
    ghn = load_hypernetwork(whole[1] / "hypernetworks" / "arm1-seed0.safetensors")
    assert ghn.classes == 10
    assert ghn.sizes.hidden == 8


@pytest.mark.slow
def test_in_pieces_of_one_step_each_the_results_are_the_same(whole, tmp_path):
    for _ in range(40):
        outcome = run_ghn_study(study(), out=tmp_path, time_limit_s=0)
        if not outcome.out_of_time:
            break
        assert outcome.result.status == "interrupted"
    assert outcome.result.status == "completed"
    assert without_time(outcome.result) == without_time(whole[0])
    assert len(list(tmp_path.iterdir())) == 1
    lines = (outcome.folder.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)]
)
def test_after_kill_9_it_goes_on_with_the_same_results(after, whole, tmp_path):
    """Killed in the training, among the tests and after the first arm, without any chance to clean up."""
    code = (
        "import os, signal, sys; from pathlib import Path; import torch\n"
        "from lowbit_sim.study.ghn.run import run_ghn_study\n"
        "from tests.study.ghn.examples import study\n"
        "torch.set_num_threads(int(sys.argv[3]))\n"
        "def tick(progress):\n"
        "    if progress.done == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_ghn_study(study(), out=Path(sys.argv[1]), on_progress=tick)\n"
    )
    arguments = [str(tmp_path), str(after), str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, "-c", code, *arguments], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    told: list[str] = []
    outcome = run_ghn_study(study(), out=tmp_path, tell=told.append)
    assert told[0].startswith("continuing")
    assert len(list(tmp_path.iterdir())) == 1
    assert without_time(outcome.result) == without_time(whole[0])


def test_progress_counts_every_epoch_network_and_fine_tuning(tmp_path):
    seen = []
    run_ghn_study(study(), out=tmp_path, on_progress=seen.append)
    assert [each.done for each in seen] == list(range(1, seen[0].total + 1))
    assert seen[0].text == "float, seed 0: learning"
    assert seen[-1].text == "He initialisation, seed 0: fine-tuning"


def test_arms_one_at_a_time_make_the_whole(whole, tmp_path):
    first = run_ghn_study(study(), out=tmp_path, arms=["noise"])
    assert first.result.status == "partial"
    assert first.result.left_out == ("float",)
    second = run_ghn_study(study(), out=tmp_path, arms=["float"])
    assert second.folder.path == first.folder.path
    assert second.result.status == "completed"
    assert without_time(second.result) == without_time(whole[0])


def test_the_copied_study_runs_again_as_it_is(whole):
    assert load_ghn_study(whole[1] / "study.toml") == study()


def test_a_study_that_has_ended_starts_anew_and_another_is_left_alone(whole, tmp_path):
    small = study(fine_tuning=None, arms=[{"name": "float"}])
    one = run_ghn_study(small, out=tmp_path)
    assert run_ghn_study(small, out=tmp_path, time_limit_s=0).folder.path != one.folder.path
    other = study(fine_tuning=None, arms=[{"name": "float"}], seeds=[1])
    assert len({run_ghn_study(other, out=tmp_path, time_limit_s=0).folder.path, one.folder.path}) == 2


def test_what_can_not_run_is_found_first(tmp_path):
    with pytest.raises(StudyError, match="unknown arm 'flaot'"):
        run_ghn_study(study(), out=tmp_path, arms=["flaot"])
    with pytest.raises(StudyError, match="no run folder"):
        run_ghn_study(study(), out=tmp_path, resume=tmp_path)
    few = {"networks": 9, "layers": [1, 1], "operators": ["skip"]}
    table = {**study().evaluation.model_dump(exclude_none=True), "splits": {"test": few}}
    with pytest.raises(StudyError, match="the space is too small"):
        run_ghn_study(study(evaluation=table, fine_tuning=None), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_kept_out(tmp_path):
    outcome = run_ghn_study(study(), out=tmp_path, time_limit_s=0)
    with outcome.folder.base.locked(), pytest.raises(StudyError, match="the study is running in"):
        run_ghn_study(study(), out=tmp_path)


def test_prices_are_those_of_the_machines(tmp_path):
    small = study(fine_tuning=None, arms=[{"name": "float"}], profiles=["teaching_4x4", "edge_npu"])
    result = run_ghn_study(small, out=tmp_path, time_limit_s=0).result
    prices = result.arms[0].prices
    assert [price.machine for price in prices] == ["teaching_4x4", "edge_npu"]
    for price in prices:
        assert price.refusal or price.energy_pj == pytest.approx(sum(price.energy_by_role.values()))
        assert price.refusal or price.energy_by_role["update"] > 0
    assert [(each.precision, each.price.machine) for each in result.inference] == [
        (precision, machine) for precision in ("W32A32", "W4A4") for machine in ("teaching_4x4", "edge_npu")
    ]
