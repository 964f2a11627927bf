import json

import pytest
import torch

from benchmarks.gpu import ghn_arms
from benchmarks.gpu.ghn_arms import run_arm, tasks
from benchmarks.gpu.queue import queue
from lowbit_sim.quant import quantizer
from lowbit_sim.study.ghn.load import ghn_study_toml, load_ghn_study
from lowbit_sim.study.ghn.results import ghn_result
from tests.study.ghn.examples import study


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(ghn_study_toml(study(fine_tuning=None)))
    return path


def test_every_arm_of_the_study_is_a_task_of_the_queue():
    names = [task.name for task in tasks()]
    assert len(names) == len(load_ghn_study(ghn_arms.STUDY).arms)
    assert names[0] == "ghn_cifar10-float"
    assert set(names) <= set(queue())
    assert all(task.in_pieces for task in tasks())


def test_the_study_is_the_size_of_an_accelerator():
    found = load_ghn_study(ghn_arms.STUDY)
    assert found.space.networks >= 50_000
    assert set(found.evaluation.precisions) >= {"W8A8", "W4A8", "W4A4", "W2A2"}
    assert set(found.evaluation.splits) == {"test", "wide", "deep", "dense"}
    assert found.fine_tuning is not None


def test_without_kernels_it_is_not_available_and_says_why(study_file, monkeypatch):
    why = "there is no quantisation kernel for device cuda"
    monkeypatch.setattr(quantizer, "missing_kernel", lambda device: why)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert {task.why_not() for task in tasks(study_file)} == {f"not available: {why}"}


def test_an_arm_in_pieces_gives_a_record(study_file, tmp_path):
    pieces = 1
    while (record := run_arm(study_file, "noise", 0, device="cpu", out=tmp_path / "out")) is None:
        pieces += 1
        assert pieces < 20, "it has no end"
    assert pieces > 2
    result = ghn_result(json.loads(json.dumps(record)))
    assert result.status == "partial"
    assert [len(arm.runs) for arm in result.arms] == [0, 1]
