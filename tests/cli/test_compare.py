"""`lowbit-sim compare` on a study that was stopped."""

import json

import pytest
import torch

from lowbit_sim.study import run as run_module
from lowbit_sim.study import selection
from lowbit_sim.study.load_study import study_toml
from lowbit_sim.study.run import Progress
from tests.cli.commands import invoke, run_main, words
from tests.study.examples import ARMS, study


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(study_toml(study(arms=[ARMS[0], {**ARMS[1], "training": {"epochs": 3}}])))
    return str(path)


@pytest.fixture
def interrupted(study_file, tmp_path, monkeypatch):
    """A run folder in which Ctrl-C came in the second epoch of the second arm."""
    run_study = run_module.run_study

    def run_and_interrupt(chosen, *, on_epoch, **arguments):
        def interrupt(progress: Progress) -> None:
            on_epoch(progress)
            if (progress.arm, progress.metrics.epoch) == ("int8", 1):
                raise KeyboardInterrupt

        return run_study(chosen, on_epoch=interrupt, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "run_study", run_and_interrupt)
        shown = invoke("compare", study_file, "--out", str(tmp_path / "runs"))
    assert shown.exit_code == 130
    [folder] = (tmp_path / "runs").iterdir()
    assert f"Interrupted; run the same command again to continue: {folder}" in shown.output
    return folder


def status(folder) -> str:
    return json.loads((folder / "result.json").read_text())["status"]


def test_the_same_command_again_continues(interrupted, study_file):
    shown = invoke("compare", study_file, "--out", str(interrupted.parent))
    assert shown.exit_code == 0
    assert shown.stderr.splitlines() == [
        f"continuing {interrupted}: 1 of its 2 runs have ended",
        "int8, seed 0: going on after epoch 1",
    ]
    assert f"Run folder: {interrupted}" in shown.stdout
    assert status(interrupted) == "completed"


def test_it_says_what_renders_the_record(study_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("<!-- tiny: runs -->\n<!-- end of tiny -->\n")
    (tmp_path / "records").mkdir()
    shown = invoke("compare", "tiny.toml")
    [folder] = (tmp_path / "runs").iterdir()
    name = f"runs/{folder.name}"
    assert shown.output.splitlines()[-3:] == [
        f"Run folder: {name}",
        f"As Markdown: lowbit-sim report {name} --markdown",
        f"In README.md: cp {name}/result.json records/tiny.json && lowbit-sim report --update README.md",
    ]
    (tmp_path / "records" / "tiny.json").write_bytes((folder / "result.json").read_bytes())
    assert invoke("report", "--update", "README.md").exit_code == 0
    assert "| fp32 | 1 |" in (tmp_path / "README.md").read_text()
    beside = invoke("compare", "tiny.toml", "--json", "records/tiny.json")
    assert beside.output.splitlines()[-1] == "In README.md: lowbit-sim report --update README.md"


def test_a_folder_continues_by_its_own_study(interrupted, tmp_path):
    shown = invoke("compare", "--resume", str(interrupted), "--out", str(tmp_path / "unused"))
    assert shown.exit_code == 0
    assert status(interrupted) == "completed"
    assert not (tmp_path / "unused").exists()


def test_fresh_starts_anew(interrupted, study_file):
    shown = invoke("compare", study_file, "--out", str(interrupted.parent), "--fresh")
    assert shown.exit_code == 0
    assert shown.stderr == ""
    assert len(list(interrupted.parent.iterdir())) == 2
    assert status(interrupted) == "interrupted"


def test_other_options_are_another_study(interrupted, study_file, monkeypatch, capsys):
    assert run_main(monkeypatch, "compare", study_file, "--resume", str(interrupted), "--seeds", "3") == 2
    assert "it is a run of another study: study.toml differs" in capsys.readouterr().err


def test_fresh_and_resume_together_are_refused(interrupted):
    shown = invoke("compare", "--fresh", "--resume", str(interrupted))
    assert shown.exit_code == 2
    assert "--fresh starts anew and --resume continues: give one of them" in words(shown)


def test_a_number_of_epochs_is_that_of_every_arm(study_file, tmp_path):
    shown = invoke("compare", study_file, "--out", str(tmp_path / "runs"), "--epochs", "1")
    assert shown.exit_code == 0
    [folder] = (tmp_path / "runs").iterdir()
    arms = json.loads((folder / "result.json").read_text())["arms"]
    assert [len(run["epochs"]) for arm in arms for run in arm["runs"]] == [1, 1]


def test_an_arm_alone_and_then_the_others(study_file, tmp_path):
    out = str(tmp_path / "runs")
    shown = invoke("compare", study_file, "--out", out, "--arms", "fp32")
    assert shown.exit_code == 0
    assert "Arms left out: int8." in words(shown)
    [folder] = (tmp_path / "runs").iterdir()
    assert status(folder) == "partial"
    assert invoke("compare", study_file, "--out", out).exit_code == 0
    assert status(folder) == "completed"


def test_out_of_time_has_an_exit_status_of_its_own(study_file, tmp_path):
    out = str(tmp_path / "runs")
    shown = invoke("compare", study_file, "--out", out, "--seconds", "0")
    assert shown.exit_code == 75
    [folder] = (tmp_path / "runs").iterdir()
    assert f"Out of time; run the same command again to continue: {folder}" in shown.stdout
    assert invoke("compare", study_file, "--out", out).exit_code == 0
    assert status(folder) == "completed"


@pytest.mark.parametrize(
    ("device", "why"), [("gpu", "unknown device 'gpu'"), ("cuda", "can't run on cuda: torch")]
)
def test_a_device_that_is_not_there_is_an_error_before_anything_runs(
    study_file, tmp_path, monkeypatch, device, why
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shown = invoke("compare", study_file, "--out", str(tmp_path / "runs"), "--device", device)
    assert shown.exit_code == 2
    assert why in words(shown)
    assert not (tmp_path / "runs").exists()


def test_emulated_arms_are_refused_on_a_cuda_device_without_kernels(
    study_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(selection, "missing_kernel", lambda device: "there is no kernel")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    out = tmp_path / "runs"
    assert run_main(monkeypatch, "compare", study_file, "--out", str(out), "--device", "cuda") == 2
    assert "arm 'int8' can't run on cuda" in capsys.readouterr().err
    assert not out.exists()
