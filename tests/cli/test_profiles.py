"""`lowbit-sim profiles` from the first file to its figures."""

import json
from pathlib import Path

import pytest

import hw_models
from hw_models.json_schema import json_schema
from hw_models.template import template
from tests.cli.commands import invoke, run_main, words


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["list", "show", "check", "new", "schema"])
def test_every_command_has_help_with_an_example(command):
    result = invoke("profiles", command, "--help")
    assert result.exit_code == 0
    assert f"Example: lowbit-sim profiles {command}" in result.output


def test_list_names_every_profile():
    result = invoke("profiles", "list")
    assert result.exit_code == 0
    assert all(name in result.output for name in hw_models.profile_names())
    assert "validated" in result.output


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_show_toml_prints_a_profile_that_loads(name):
    assert hw_models.parse(invoke("profiles", "show", name, "--toml").output, name) == hw_models.load(name)


def test_show_prints_the_machine_and_writes_json(folder):
    result = invoke("profiles", "show", "tpu_v1", "--json", "tpu.json")
    assert result.exit_code == 0
    assert "92" in result.output
    written = json.loads((folder / "tpu.json").read_text())
    assert written["name"] == "tpu_v1"
    assert written["peaks"][0]["tops"] == pytest.approx(92, rel=0.01)


def test_new_writes_a_file_that_check_accepts_and_does_not_overwrite(folder):
    assert "lowbit-sim profiles check mine.toml" in invoke("profiles", "new", "mine").output
    result = invoke("profiles", "check", "mine.toml", "--strict")
    assert (result.exit_code, words(result)) == (0, "mine.toml: a valid profile, and nothing to remark")
    (folder / "mine.toml").write_text("mine")
    result = invoke("profiles", "new", "mine")
    assert (result.exit_code, "exists already" in words(result)) == (2, True)
    assert (folder / "mine.toml").read_text() == "mine"


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No folder")],
    ids=["denied", "no folder"],
)
def test_a_file_that_can_not_be_written_is_a_users_error(monkeypatch, capsys, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    assert run_main(monkeypatch, "profiles", "new", "mine") == 2
    assert capsys.readouterr().err == f"Error: can't write mine.toml: {error.strerror}\n"


def test_check_tells_warnings_with_file_line_and_key_and_passes(folder):
    text = template("mine").replace("#accumulator_bits = 32", "accumulator_bits = 16")
    (folder / "mine.toml").write_text(text)
    line = text[: text.index("accumulator_bits = 16")].count("\n") + 1
    result = invoke("profiles", "check", "mine.toml")
    assert result.exit_code == 0
    start, *_, last = result.output.splitlines()
    assert start.startswith(
        f"mine.toml:{line}: warning: arithmetic.accumulator_bits: 16 bits hold 2 products"
    )
    assert last == "mine.toml: 0 errors and 1 warning"
    assert invoke("profiles", "check", "mine.toml", "--strict").exit_code == 1


def test_line_100_is_no_emoji(folder):
    text = template("mine")
    blank = 100 - text[: text.index("\nrows = 16") + 1].count("\n") - 1
    assert blank > 0
    (folder / "mine.toml").write_text("\n" * blank + text.replace("\nrows = 16", "\nrowz = 16"))
    assert "mine.toml:100: error: array.rowz" in invoke("profiles", "check", "mine.toml").output


def test_check_tells_errors_and_exits_with_2(folder):
    text = template("mine").replace("\nrows = 16", "\nrowz = 16")
    (folder / "mine.toml").write_text(text)
    line = text[: text.index("rowz = 16")].count("\n") + 1
    result = invoke("profiles", "check", "mine.toml")
    assert result.exit_code == 2
    assert f"mine.toml:{line}: error: array.rowz: unknown key 'rowz'" in result.output
    assert "did you mean 'rows'?" in result.output
    assert result.output.splitlines()[-1] == "mine.toml: 2 errors and 0 warnings"


def test_check_finds_a_format_that_the_array_lacks(folder):
    (folder / "mine.toml").write_text(template("mine").replace('format = "int8"', 'format = "int16"'))
    result = invoke("profiles", "check", "mine.toml")
    assert result.exit_code == 2
    assert "error: arithmetic.format: the array multiplies no int16 x int16 (output)" in result.output


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_check_takes_a_name_and_finds_no_error(name):
    result = invoke("profiles", "check", name)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "tpu"), "unknown profile 'tpu'"),
        (("check", "absent.toml"), "can't read the profile absent.toml"),
        (("check", "tpu"), "unknown profile 'tpu'"),
        (("schema", "--out", "absent/s.json"), "can't write absent/s.json"),
    ],
    ids=["show", "check file", "check name", "schema"],
)
def test_a_users_error_is_one_message(monkeypatch, capsys, folder, arguments, message):
    assert run_main(monkeypatch, "profiles", *arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert message in streams.err
    assert "Traceback" not in streams.err


def test_schema_is_printed_or_written(folder):
    assert json.loads(invoke("profiles", "schema").output) == json_schema()
    told = invoke("profiles", "schema", "--out", "s.json").output
    assert "#:schema ./s.json" in told
    assert json.loads((folder / "s.json").read_text()) == json_schema()


def test_schema_overwrites(folder):
    (folder / "s.json").write_text("old")
    assert invoke("profiles", "schema", "--out", "s.json").exit_code == 0
    assert json.loads((folder / "s.json").read_text()) == json_schema()
