"""`lowbit-sim ghn` on a tiny study."""

import json

import pytest

from lowbit_sim.study.ghn.load import ghn_study_toml
from tests.cli.commands import invoke, run_main, words
from tests.study.ghn.examples import study


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(ghn_study_toml(study(fine_tuning=None, arms=[{"name": "float"}])))
    return path


def test_a_study_runs_in_pieces_and_is_shown_again(study_file, tmp_path):
    arguments = ("ghn", "run", str(study_file), "--out", str(tmp_path / "runs"))
    stopped = invoke(*arguments, "--seconds", "0")
    assert stopped.exit_code == 75
    assert "Out of time; run the same command again to continue:" in stopped.stdout
    shown = invoke(*arguments, "--json", str(tmp_path / "record.json"))
    assert shown.exit_code == 0
    [folder] = (tmp_path / "runs").iterdir()
    assert f"continuing {folder}" in shown.stderr
    assert f"Run folder: {folder}" in shown.stdout
    assert "accuracy, % on 2 networks of split 'test', batch-norms by the batch" in words(shown)
    assert "chance" in shown.stdout
    assert json.loads((tmp_path / "record.json").read_text())["status"] == "completed"
    again = invoke("ghn", "report", str(folder), "--markdown")
    assert again.exit_code == 0
    assert "| arm | W32A32 | W4A4 |" in again.stdout
    assert "| chance | 10.0 | 10.0 |" in again.stdout


def test_networks_are_shown(study_file):
    shown = invoke("ghn", "networks", str(study_file), "--split", "deep", "--count", "3")
    assert shown.exit_code == 0
    assert "networks of split 'deep'" in shown.stdout
    assert len([line for line in shown.stdout.splitlines() if line.startswith("│")]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("networks", "FILE", "--split", "wide"), "unknown split 'wide'"),
        (("run", "FILE", "--profile", "no_machine"), "no_machine"),
        (("run", "FILE", "--arms", "sim"), "unknown arm 'sim'"),
        (("report", "FILE"), "is not a record of lowbit-sim ghn"),
        (("run", "none.toml"), "can't read the study"),
    ],
)
def test_errors_are_a_message(arguments, message, study_file, monkeypatch, capsys):
    given = [str(study_file) if each == "FILE" else each for each in arguments]
    assert run_main(monkeypatch, "ghn", *given) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_fresh_and_resume_do_not_go_together(study_file, tmp_path):
    shown = invoke("ghn", "run", str(study_file), "--fresh", "--resume", str(tmp_path))
    assert shown.exit_code == 2
    assert "give one of them" in words(shown)


@pytest.mark.parametrize("command", ["run", "networks", "report"])
def test_every_command_has_help_with_an_example(command):
    shown = invoke("ghn", command, "--help")
    assert shown.exit_code == 0
    assert f"Example: lowbit-sim ghn {command}" in words(shown)
