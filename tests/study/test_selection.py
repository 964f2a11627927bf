"""Some of a study's arms at a time, on a device that may not run them all, and in pieces of bounded time."""

import json
from typing import Any

import pytest
import torch

from lowbit_sim.study import environment as environment_module
from lowbit_sim.study import selection
from lowbit_sim.study.environment import deciding
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.recorded import study_result
from lowbit_sim.study.run import Outcome, Progress, run_study
from lowbit_sim.study.run_folder import RunFolder
from lowbit_sim.study.selection import ArmRefusedError, refusal, selected
from lowbit_sim.training.device import CPU
from tests.study.examples import ARMS, study

CUDA = torch.device("cuda")
WHY = "there is no quantisation kernel for device cuda"
MIXED = [{"path": "1", "native": True}]

#: An arm, and whether it can train on CUDA without kernels of ours.
ARM_TABLES: list[tuple[dict[str, Any], bool]] = [
    ({"native": True}, True),
    ({"native": "bf16"}, True),
    ({"native": True, "rules": MIXED}, True),
    ({"native": True, "recipes": [{"name": "hypergradient", "hyper_learning_rate": 0.01}]}, True),
    ({"native": True, "recipes": [{"name": "metagrad"}]}, True),
    ({"native": True, "recipes": [{"name": "metagrad", "format": "int8"}]}, False),
    ({"native": True, "recipes": [{"name": "metagrad", "gradient_quantizer": "int4"}]}, False),
    ({"native": True, "recipes": [{"name": "error_feedback", "quantizer": "int4"}]}, False),
    ({"native": True, "rules": [{"path": "1", "format": "int8"}]}, False),
    ({"native": True, "rules": [{"path": "*", "elementwise": {"output": "bf16"}}]}, False),
    ({"native": True, "update": {"weight": "bf16"}}, False),
    ({"format": "int4", "rules": MIXED}, False),
    ({"profile": "edge_npu"}, False),
]


@pytest.fixture
def no_kernels(monkeypatch):
    """A CUDA device without quantisation kernels, as where Triton is missing."""
    monkeypatch.setattr(selection, "missing_kernel", lambda device: WHY if device.type == "cuda" else None)


@pytest.mark.parametrize(("table", "can"), ARM_TABLES, ids=[str(i) for i in range(len(ARM_TABLES))])
def test_only_arms_that_quantise_nothing_run_where_there_are_no_kernels(table, can, no_kernels):
    [arm] = study(arms=[{"name": "subject", **table}]).arms
    assert refusal(arm, CUDA) == (None if can else WHY)
    assert refusal(arm, CPU) is None


def test_arms_are_selected_by_name_in_the_studys_order(no_kernels):
    subject = study()
    assert selected(subject, None, CPU) == (0, 1)
    assert selected(subject, ["int8"], CPU) == (1,)
    assert selected(subject, ["int8", "fp32"], CPU) == (0, 1)
    assert selected(subject, ["fp32"], CUDA) == (0,)


def test_an_unknown_arm_names_the_known_ones():
    with pytest.raises(StudyError, match="unknown arm 'fp23'.*fp32"):
        selected(study(), ["fp23"], CPU)


def test_where_there_are_kernels_every_arm_runs(monkeypatch):
    monkeypatch.setattr(selection, "missing_kernel", lambda device: None)
    assert selected(study(), None, CUDA) == (0, 1)


def test_a_refusal_has_the_reason_and_the_arms_that_can_run(no_kernels):
    with pytest.raises(
        ArmRefusedError, match=rf"arm 'int8' can't run on cuda: {WHY}; those that can are 'fp32'"
    ):
        selected(study(), None, CUDA)
    with pytest.raises(ArmRefusedError, match="no arm of the study can"):
        selected(study(arms=[ARMS[1]]), None, CUDA)


def test_refused_arms_are_an_error_before_any_folder(tmp_path, no_kernels):
    with pytest.raises(ArmRefusedError):
        run_study(study(), out=tmp_path, device=CUDA)
    assert not list(tmp_path.iterdir())


def accuracies(outcome: Outcome) -> dict[str, list[float | None]]:
    return {arm.name: [run.test_accuracy for run in arm.runs] for arm in outcome.result.arms}


def losses(outcome: Outcome) -> dict[tuple[str, int], list[float]]:
    return {
        (arm.name, run.seed): [epoch.test_loss for epoch in run.training.epochs]
        for arm in outcome.result.arms
        for run in arm.runs
    }


def test_arms_come_one_by_one_into_one_record(tmp_path):
    subject = study(seeds=[0, 1])
    whole = run_study(subject, out=tmp_path / "whole")
    second = run_study(subject, out=tmp_path / "parts", arms=["int8"])
    assert (second.result.status, second.result.left_out) == ("partial", ("fp32",))
    assert [arm.name for arm in second.result.arms] == ["int8"]
    trained: list[Progress] = []
    both = run_study(subject, out=tmp_path / "parts", arms=["fp32"], on_epoch=trained.append)
    assert {progress.arm for progress in trained} == {"fp32"}
    assert both.folder == second.folder
    assert (both.result.status, both.result.left_out) == ("completed", ())
    assert losses(both) == losses(whole)


def test_a_partial_record_says_which_arms_were_left_out(tmp_path):
    outcome = run_study(study(), out=tmp_path, arms=["fp32"])
    record = RunFolder(path=outcome.folder).record(outcome.result)
    assert (record["status"], record["left_out"]) == ("partial", ["int8"])
    assert json.loads((outcome.folder / "result.json").read_text())["left_out"] == ["int8"]
    assert study_result(record, "record").left_out == ("int8",)
    again = run_study(study(), out=tmp_path, arms=["fp32"])
    assert (again.folder, accuracies(again)) == (outcome.folder, accuracies(outcome))


def test_an_older_record_left_nothing_out(tmp_path):
    outcome = run_study(study(arms=[ARMS[0]]), out=tmp_path)
    record = RunFolder(path=outcome.folder).record(outcome.result)
    del record["left_out"]
    assert study_result(record, "record").left_out == ()


def test_pieces_of_an_epoch_give_the_bits_of_the_whole(tmp_path):
    subject = study(seeds=[0, 1])
    whole = run_study(subject, out=tmp_path / "whole")
    for _ in range(8):  # one for each epoch
        piece = run_study(subject, out=tmp_path / "pieces", time_limit_s=0)
        assert piece.out_of_time
        assert piece.result.status == "interrupted"
        assert piece.result.reason == "out of time, to be continued"
    end = run_study(subject, out=tmp_path / "pieces", time_limit_s=0)
    assert (end.result.status, end.out_of_time) == ("completed", False)
    assert losses(end) == losses(whole)
    assert len(list((tmp_path / "pieces").iterdir())) == 1


def test_time_that_suffices_changes_nothing(tmp_path):
    outcome = run_study(study(), out=tmp_path, time_limit_s=1000)
    assert (outcome.result.status, outcome.out_of_time) == ("completed", False)


def test_the_environment_names_the_device(tmp_path):
    outcome = run_study(study(arms=[ARMS[0]]), out=tmp_path)
    assert RunFolder(path=outcome.folder).environment()["device"] == "cpu"


def test_of_a_run_on_a_device_the_device_decides_in_place_of_the_processor():
    known = {"device": "NVIDIA H200", "processor": "EPYC", "torch_threads": 2}
    assert deciding(known)["device"] == "NVIDIA H200"
    assert "processor" not in deciding(known)
    assert deciding({"processor": "EPYC"})["processor"] == "EPYC"


def test_a_run_of_another_device_is_left_as_it_is(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(environment_module, "device_name", lambda device: "NVIDIA H200")
        other = run_study(study(), out=tmp_path, arms=["fp32"])
    here = run_study(study(), out=tmp_path, arms=["fp32"])
    assert here.folder != other.folder
    with pytest.raises(StudyError, match="the device was NVIDIA H200 and is cpu"):
        run_study(study(), out=tmp_path, resume=other.folder)
