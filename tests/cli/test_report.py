import json

import pytest

from lowbit_sim.study.results import to_dict
from tests.cli.commands import invoke, run_main, words
from tests.study.examples import arm, measured_run, native_arm, result, run


@pytest.fixture
def record(tmp_path):
    study = result(native_arm((run(0, 0.5),)), arm("INT8", (measured_run(0, [1.0, 2.0]),)), seeds=(0,))
    path = tmp_path / "record.json"
    path.write_text(json.dumps(to_dict(study)))
    return path


def test_the_table_of_each_record_is_printed(record):
    shown = invoke("report", str(record), str(record))
    assert shown.exit_code == 0
    assert shown.output.count("tiny: mlp on scikit-learn digits") == 2
    assert "test accuracy, %" in shown.output


def test_markdown_with_chosen_columns(record):
    shown = invoke("report", str(record), "--markdown", "--columns", "accuracy, runs")
    assert shown.output.splitlines()[:3] == [
        "| arm | accuracy, % | runs |",
        "|---|---|---|",
        "| fp32 | 50.00 | 1 |",
    ]


def test_some_arms_beside_the_baseline(record):
    shown = invoke("report", str(record), "--markdown", "--columns", "runs", "--arms", "fp32")
    assert [line.split(" | ")[0] for line in shown.output.splitlines() if line.startswith("| ")][1:] == [
        "| fp32"
    ]
    assert "| INT8" in invoke("report", str(record), "--markdown", "--arms", "INT8").output


def test_a_plot_over_the_epochs(record, tmp_path):
    pytest.importorskip("plotly")
    page = tmp_path / "gain.html"
    shown = invoke("report", str(record), str(record), "--plot", str(page))
    assert shown.exit_code == 0
    assert f"Plot: {page}" in shown.output
    assert "tiny: INT8 (2)" in page.read_text()


@pytest.mark.parametrize(("suffix", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_a_picture_over_the_epochs(record, tmp_path, suffix, begins):
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"gain.{suffix}"
    shown = invoke("report", str(record), "--plot", str(picture), "--measurement", "test_accuracy")
    assert shown.exit_code == 0, shown.output
    assert picture.read_bytes().startswith(begins)


def test_a_page_is_brought_up_to_date(record, tmp_path):
    (tmp_path / "records").mkdir()
    record.rename(tmp_path / "records" / "mine.json")
    page = tmp_path / "page.md"
    page.write_text("<!-- mine: runs -->\n<!-- end of mine -->\n")
    assert "tables rewritten" in invoke("report", "--update", str(page)).output
    assert "| INT8 | 1 |" in page.read_text()
    assert "every table is that of its record" in invoke("report", "--update", str(page)).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a run folder or a record"),
        (["{record}", "--columns", "runs"], "add --markdown"),
        (["{record}", "--measurement", "test_loss"], "add --plot"),
        (["{record}", "--plot", "x.gif"], "should end in .html for a page, or in .svg"),
        (["--plot", "x.html", "--update", "page.md"], "--plot needs a run folder or a record"),
    ],
)
def test_options_without_effect_are_refused(record, arguments, message):
    shown = invoke("report", *(argument.format(record=record) for argument in arguments))
    assert shown.exit_code == 2
    assert message in words(shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.json"], "can't read the record absent.json"),
        (["--update", "absent.md"], "can't read the page absent.md: No such file or directory"),
        (["--update", "{record}"], "has no place for a table: mark one with <!-- NAME -->"),
        (["{record}", "--markdown", "--columns", "runns"], "did you mean 'runs'"),
    ],
)
def test_a_users_error_is_one_message(record, monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "report", *(argument.format(record=record) for argument in arguments)) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith("Error: ")
    assert message in " ".join(streams.err.split())
