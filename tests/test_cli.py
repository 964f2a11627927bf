import json
import subprocess
import sys

import pytest

import hw_models
from lowbit_sim import cli
from lowbit_sim.cli.app import output
from lowbit_sim.study import records
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import study_toml
from lowbit_sim.study.run import Progress
from tests.cli.commands import invoke, run_main
from tests.study.examples import study


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(study_toml(study()))
    return str(path)


COMMANDS = [
    ("compare",),
    ("report",),
    ("estimate",),
    ("vectors",),
    ("profiles", "list"),
    ("profiles", "show"),
    ("profiles", "check"),
    ("profiles", "new"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: lowbit-sim {' '.join(command)}" in result.output


def test_help_lists_the_commands():
    output = invoke("--help").output
    assert all(name in output for name in ("compare", "report", "estimate", "profiles"))


def test_version():
    from importlib.metadata import version

    assert invoke("--version").output == f"lowbit-sim {version('lowbit-sim')}\n"


def test_compare_prints_the_table_and_writes_folder_and_json(study_file, tmp_path):
    arguments = ["--out", str(tmp_path / "runs"), "--json", str(tmp_path / "r.json"), "--profile", "edge_npu"]
    result = invoke("compare", study_file, *arguments, "--seeds", "2", "--epochs", "1")
    assert result.exit_code == 0
    assert "test accuracy, %" in result.output
    assert "edge_npu" in result.output
    [folder] = (tmp_path / "runs").iterdir()
    assert f"Run folder: {folder}" in result.output
    written = json.loads((tmp_path / "r.json").read_text())
    assert written == json.loads((folder / "result.json").read_text())
    assert written["seeds"] == [0, 1]
    assert [len(run["epochs"]) for run in written["arms"][0]["runs"]] == [1, 1]
    assert [price["machine"] for price in written["arms"][0]["prices"]] == ["edge_npu"]


@pytest.mark.parametrize("target", ["absent/r.json", "."])
def test_a_json_file_that_can_not_be_written_is_an_error_before_training(
    study_file, tmp_path, monkeypatch, capsys, target
):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "compare", study_file, "--out", "runs", "--json", target) == 2
    assert f"can't write {target}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_run_folder_is_named_before_the_json_is_written(study_file, tmp_path, monkeypatch, capsys):
    """A disk that fills up during training must not hide where the results are."""
    written = tmp_path / "r.json"

    def write(path, value):
        if path == written:
            raise StudyError("can't write r.json: no space left")
        write_json(path, value)

    write_json = records.write_json
    monkeypatch.setattr(records, "write_json", write)
    assert (
        run_main(monkeypatch, "compare", study_file, "--out", str(tmp_path / "runs"), "--json", str(written))
        == 2
    )
    streams = capsys.readouterr()
    assert "Run folder:" in streams.out
    assert "no space left" in streams.err


def test_without_a_terminal_tables_have_their_100_columns_unless_columns_says_otherwise(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output().width == 100
    monkeypatch.setenv("COLUMNS", "140")
    assert output().width == 140


def test_without_a_terminal_there_is_no_progress_bar(study_file, tmp_path):
    result = invoke("compare", study_file, "--out", str(tmp_path / "runs"))
    assert result.stderr == ""


def test_an_interrupt_shows_what_there_is_and_exits_130(study_file, tmp_path, monkeypatch):
    from lowbit_sim.study import run as run_module

    def run_and_interrupt(chosen, *, on_epoch, **arguments):
        def interrupt(progress: Progress) -> None:
            on_epoch(progress)
            if progress.arm == "int8":
                raise KeyboardInterrupt

        return run_study(chosen, on_epoch=interrupt, **arguments)

    run_study = run_module.run_study
    monkeypatch.setattr(run_module, "run_study", run_and_interrupt)
    result = invoke("compare", study_file, "--out", str(tmp_path / "runs"))
    assert result.exit_code == 130
    assert "Interrupted; run the same command again to continue:" in result.output
    assert "not run" in result.output
    [folder] = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "absent.toml"], "can't read the study absent.toml"),
        (["compare", "--data", "digit"], "command line: data.name = 'digit': unknown data set"),
        (["compare", "--profile", "tpu"], "command line: profiles[0] = 'tpu': unknown profile"),
        (["compare", "--data", "mnist", "--data-root", "absent"], "the data root absent is not a folder"),
        (["profiles", "show", "tpu"], "unknown profile 'tpu'"),
        (["profiles", "check", "absent.toml"], "can't read the profile absent.toml"),
    ],
)
def test_a_users_error_is_one_message_on_stderr_and_exit_code_2(
    monkeypatch, capsys, tmp_path, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("Error: ")
    assert message in streams.err
    assert "Traceback" not in streams.err
    assert not list(tmp_path.iterdir())


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    def fail():
        raise RuntimeError("a bug")

    monkeypatch.setattr(hw_models, "profile_names", fail)
    monkeypatch.setattr(sys, "argv", ["lowbit-sim", "profiles", "list"])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profiles", "new", "My Machine"], "lower-case letters, digits and underscores"),
        (["compare", "--seeds", "0"], "Invalid value for '--seeds'"),
        (["compar"], "No such command"),
    ],
)
def test_wrong_usage_exits_2(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_help_does_not_import_what_it_does_not_need():
    code = (
        "import sys; from typer.testing import CliRunner; from lowbit_sim.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([m for m in ('numba', 'sklearn', 'pyarrow', 'PIL', 'lowbit_sim.study.run') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_package_runs_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "lowbit_sim", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("lowbit-sim ")
