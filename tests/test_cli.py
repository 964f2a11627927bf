import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hw_models
from lowbit_sim import cli
from lowbit_sim.study import records
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import study_toml
from lowbit_sim.study.run import Progress
from tests.study.examples import study

RUNNER = CliRunner()


def invoke(*arguments: str):
    return RUNNER.invoke(cli.app, list(arguments), env={"COLUMNS": "100"}, catch_exceptions=False)


def run_main(monkeypatch, *arguments: str) -> int | str | None:
    """Exit code of `lowbit-sim ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["lowbit-sim", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(study_toml(study()))
    return str(path)


COMMANDS = [
    ("compare",),
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
    assert all(name in output for name in ("compare", "estimate", "profiles"))


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
    assert cli._output().width == 100
    monkeypatch.setenv("COLUMNS", "140")
    assert cli._output().width == 140


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
    assert "Interrupted; the runs that ended are in" in result.output
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
        (["estimate", "--profile", "tpu", "--gemm", "1,2,3"], "unknown profile 'tpu'"),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "1,2,3", "--format", "int88"],
            "unknown format 'int88'",
        ),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "1,2,3", "--format", "int16"],
            "but tpu_v1 multiplies integers",
        ),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "100000000000000000000,2,3"],
            "a GEMM's sizes are 0 to 2^62, got M,N,K = 100000000000000000000,2,3",
        ),
        (["estimate", "--profile", "tpu_v1", "--model", "vgg"], "unknown model 'vgg'"),
        (
            [*"estimate --profile tpu_v1 --model small_cnn --batch 1 --data-shape 1,2,2".split()],
            "one value for each channel",
        ),
        (
            [*"estimate --profile tpu_v1 --model mlp --batch 100000000000000".split()],
            "does not fit in memory",
        ),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "1,2,3", "--json", "absent/c.json"],
            "can't write absent",
        ),
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
        (["estimate", "--profile", "tpu_v1"], "either --model NAME or --gemm"),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "1,2,3", "--model", "mlp"],
            "either --model NAME or --gemm",
        ),
        (["estimate", "--profile", "tpu_v1", "--gemm", "1,2"], "three whole numbers"),
        (["estimate", "--profile", "tpu_v1", "--gemm", "1,2,-3"], "three whole numbers"),
        (
            ["estimate", "--profile", "tpu_v1", "--model", "mlp", "--data-shape", "a,b,c"],
            "three whole numbers",
        ),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "1,2,3", "--batch", "4", "--classes", "3"],
            "--batch and --classes describe a model's step",
        ),
        (
            ["estimate", "--profile", "tpu_v1", "--gemm", "1,2,3", "--data-shape", "3,8,8"],
            "--data-shape describes a model's step",
        ),
        (["profiles", "new", "My Machine"], "lower-case letters, digits and underscores"),
        (["compare", "--seeds", "0"], "Invalid value for '--seeds'"),
        (["compar"], "No such command"),
    ],
)
def test_wrong_usage_exits_2(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_estimate_of_a_gemm_is_the_cost_models(tmp_path):
    result = invoke(
        "estimate", "--profile", "tpu_v1", "--gemm", "64,32,16", "--json", str(tmp_path / "c.json")
    )
    assert result.exit_code == 0
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["macs"] == 64 * 32 * 16
    assert f"{written['cycles']:,}" in result.output
    assert written["by_role"]["output"]["cycles"] == written["cycles"]


def test_estimate_of_a_model(tmp_path):
    arguments = ["--model", "small_cnn", "--batch", "4", "--data-shape", "1,8,8", "--format", "int8"]
    result = invoke("estimate", "--profile", "edge_npu", *arguments, "--json", str(tmp_path / "c.json"))
    assert result.exit_code == 0
    assert "One training step of small_cnn, 4 images of 1,8,8 on edge_npu" in result.output
    one = invoke("estimate", "--profile", "edge_npu", "--model", "mlp", "--batch", "1", "--format", "int8")
    assert "One training step of mlp, 1 image of 3,32,32 on edge_npu" in one.output
    written = json.loads((tmp_path / "c.json").read_text())
    assert sum(part["cycles"] for part in written["by_role"].values()) == written["cycles"]


def test_profiles_list_names_them_all():
    output = invoke("profiles", "list").output
    assert all(name in output for name in hw_models.profile_names())


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_profiles_show_prints_toml_that_loads(name):
    assert hw_models.parse(invoke("profiles", "show", name).output, name) == hw_models.load(name)


def test_profiles_new_writes_a_file_that_check_accepts_and_does_not_overwrite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "lowbit-sim profiles check mine.toml" in invoke("profiles", "new", "mine").output
    assert "mine.toml: mine is a valid profile" in invoke("profiles", "check", "mine.toml").output
    (tmp_path / "mine.toml").write_text("mine")
    result = invoke("profiles", "new", "mine")
    assert (result.exit_code, "exists already" in result.output) == (2, True)
    assert (tmp_path / "mine.toml").read_text() == "mine"


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No folder")]
)
def test_a_profile_that_can_not_be_written_is_a_users_error(monkeypatch, capsys, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    assert run_main(monkeypatch, "profiles", "new", "mine") == 2
    assert capsys.readouterr().err == f"Error: can't write mine.toml: {error}\n"


def test_profiles_check_says_what_is_wrong(monkeypatch, capsys, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(hw_models.template("bad").replace("rows = 16", "rowz = 16"))
    assert run_main(monkeypatch, "profiles", "check", str(path)) == 2
    assert "did you mean 'rows'" in capsys.readouterr().err


def test_help_does_not_import_what_it_does_not_need():
    code = (
        "import sys; from typer.testing import CliRunner; from lowbit_sim.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([m for m in ('numba', 'sklearn', 'pyarrow', 'PIL', 'lowbit_sim.study.run') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
