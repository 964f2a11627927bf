import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import study_arms
from benchmarks.gpu.plain_arm import run_plainly
from benchmarks.gpu.study_arms import is_plain, run_arm, tasks
from benchmarks.gpu.task import ROOT, Record
from lowbit_sim.study import selection
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.recorded import study_result
from lowbit_sim.study.run import run_study
from lowbit_sim.study.selection import refusal
from tests.gpu_queue.studies import study_file


def runs_of(record: Record, arm: str) -> list[dict]:
    """An arm's runs without what a clock decides."""
    [runs] = [each["runs"] for each in record["arms"] if each["name"] == arm]
    return [
        {
            "seed": run["seed"],
            "status": run["status"],
            "steps": run["steps"],
            "epochs": [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in run["epochs"]],
        }
        for run in runs
    ]


def in_pieces(path: Path, arm: str, out: Path, work=run_arm) -> tuple[Record, int]:
    """The record of an arm that is run an epoch at a time, and in how many pieces it came."""
    for number in range(1, 20):
        record = work(path, arm, 0, device="cpu", out=out)
        if record is not None:
            return json.loads(json.dumps(record)), number
    raise AssertionError("it has no end")


def test_every_arm_is_a_task_and_native_ones_come_first(tmp_path):
    found = tasks([study_file(tmp_path)])
    assert [task.name for task in found] == ["tiny-fp32", "tiny-bf16_native", "tiny-int8"]
    assert [task.needs for task in found] == [(), (), ("pydantic",)]
    assert all(task.in_pieces for task in found)


def test_an_emulated_arm_is_not_available_without_kernels_and_says_why(tmp_path, monkeypatch):
    why = "there is no quantisation kernel for device cuda"
    monkeypatch.setattr(selection, "missing_kernel", lambda device: why)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    *native, emulated = tasks([study_file(tmp_path)])
    assert [task.why_not() for task in native] == [None, None]
    assert emulated.why_not() == "not available: there is no quantisation kernel for device cuda"


def test_the_queue_holds_both_native_arms_of_both_studies():
    names = [task.name for task in tasks()]
    assert names[:4] == [
        "metagrad_resnet20_cifar10-fp32",
        "metagrad_resnet20_cifar10-bf16",
        "metagrad_vgg16_cifar10-fp32",
        "metagrad_vgg16_cifar10-bf16",
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", study_arms.STUDIES)
def test_arms_are_plain_where_the_study_says_that_they_run_without_kernels(name, monkeypatch):
    import tomllib

    path = study_arms.EXPERIMENTS / name
    plain = [arm["name"] for arm in tomllib.loads(path.read_text())["arms"] if is_plain(arm)]
    arms = load_study(path).arms
    monkeypatch.setattr(selection, "missing_kernel", lambda device: "none")
    assert plain == [arm.name for arm in arms if refusal(arm, torch.device("cuda")) is None]


def test_short_studies_take_turns_in_the_order_of_their_arms():
    names = [task.name for task in study_arms.TASKS]
    assert names[:4] == [
        "one_h200_vgg16-fp32",
        "one_h200_resnet20-fp32",
        "one_h200_vgg16-bf16",
        "one_h200_resnet20-bf16",
    ]
    assert len(names) == len(set(names))
    first_long = names.index("metagrad_resnet20_cifar10-fp32")
    assert all(name.startswith("one_h200") for name in names[:first_long])


@pytest.mark.parametrize("name", study_arms.SHORT)
def test_short_studies_load_and_hold_equal_rules_in_every_layerwise_arm(name):
    arms = load_study(study_arms.EXPERIMENTS / name).arms
    assert {arm.native for arm in arms} == {True, False, "bf16", "fp16", "tf32", "int8"}
    assert len({tuple(rule.path for rule in arm.rules) for arm in arms if arm.rules}) == 1


@pytest.mark.parametrize("arm", ["fp32", "bf16 / native"])
def test_pieces_and_a_plain_reading_give_the_bits_of_compare(tmp_path, capsys, arm):
    path = study_file(tmp_path)
    whole = run_study(load_study(path), out=tmp_path / "whole", arms=[arm])
    expected = [run.training.epochs for run in whole.result.arms[0].runs]
    through, pieces = in_pieces(path, arm, tmp_path / "pieces")
    told = capsys.readouterr().out
    plain, plain_pieces = in_pieces(path, arm, tmp_path / "plain", run_plainly)
    assert (pieces, plain_pieces) == (5, 5)  # one for each of the four epochs, and the end
    assert runs_of(plain, arm) == runs_of(through, arm)
    losses = [[epoch["test_loss"] for epoch in run["epochs"]] for run in through["arms"][0]["runs"]]
    assert losses == [[epoch.test_loss for epoch in epochs] for epochs in expected]
    assert f"the next piece goes on from {tmp_path / 'pieces'}" in told
    assert "checkpoints/arm" in told


def test_both_records_read_as_a_studys(tmp_path):
    path = study_file(tmp_path)
    through = run_arm(path, "fp32", 1000, device="cpu", out=tmp_path / "runs")
    plain = run_plainly(path, "fp32", 1000, device="cpu", out=tmp_path / "runs")
    assert through is not None
    assert plain is not None
    ours, theirs = (study_result(json.loads(json.dumps(each)), "record") for each in (through, plain))
    assert ours.left_out == theirs.left_out == ("INT8", "bf16 / native")
    assert ours.arms[0].mean_accuracy == theirs.arms[0].mean_accuracy
    words = [
        (arm.native, arm.operands, arm.accumulator, arm.gradient_rounding)
        for arm in (ours.arms[0], theirs.arms[0])
    ]
    assert words[0] == words[1]
    assert "pydantic" in theirs.reason
    assert plain["environment"].keys() <= through["environment"].keys()


def test_arms_of_a_study_share_a_record(tmp_path):
    path = study_file(tmp_path)
    run_arm(path, "fp32", 1000, device="cpu", out=tmp_path / "runs")
    record = run_arm(path, "bf16 / native", 1000, device="cpu", out=tmp_path / "runs")
    assert record is not None
    assert [arm["name"] for arm in record["arms"]] == ["fp32", "bf16 / native"]
    assert record["left_out"] == ["INT8"]


def test_an_emulated_arm_is_not_read_plainly(tmp_path):
    with pytest.raises(ValueError, match="only a native arm without rules can be read plainly, and 'INT8'"):
        run_plainly(study_file(tmp_path), "INT8", 1, device="cpu", out=tmp_path)


def test_without_pydantic_native_arms_run_and_emulated_ones_say_what_they_need(tmp_path):
    path = study_file(tmp_path)
    code = f"""
import sys
from pathlib import Path

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pydantic", "typer", "rich"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from benchmarks.gpu import study_arms, task
real = task.find_spec
task.find_spec = study_arms.find_spec = lambda name: None if name == "pydantic" else real(name)
found = study_arms.tasks([Path({str(path)!r})])
print([each.why_not() for each in found])
record = study_arms.run_arm(Path({str(path)!r}), "fp32", 1000, device="cpu", out=Path({str(tmp_path)!r}))
print(record["reason"], len(record["arms"][0]["runs"]), "pydantic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    modules, *told, record = done.stdout.splitlines()
    assert modules == "[None, None, 'needs pydantic, not installed here']"
    assert len(told) == 4
    assert told[0].startswith("fp32, seed 0, epoch 1: test accuracy ")
    assert record == (
        "read plainly, as pydantic is not installed: without checks of the file and without prices 2 False"
    )
