"""`lowbit-sim validate`."""

import json

from hw_models.validation.comparisons import COMPARISONS
from hw_models.validation.document import markdown
from tests.cli.commands import invoke, run_main, words


def test_statistics_and_points():
    result = invoke("validate", "gemmini", "rapid")
    assert result.exit_code == 0
    assert "Gemmini: RTL" in words(result)
    assert "RaPiD: sustained share in training" in words(result)
    assert "GEMM 512" not in words(result)
    every = invoke("validate", "gemmini", "--points")
    assert "540,894" in every.output


def test_the_files_have_every_point(tmp_path):
    page, record = tmp_path / "page.md", tmp_path / "points.json"
    result = invoke("validate", "tpu", "scale_sim", "--out", str(page), "--json", str(record))
    assert result.exit_code == 0
    chosen = {key: COMPARISONS[key] for key in ("scale_sim", "tpu")}
    assert page.read_text() == markdown(chosen)
    written = json.loads(record.read_text())
    assert {key: len(rows) for key, rows in written.items()} == {"scale_sim": 2996, "tpu": 13}
    (tile,) = [row for row in written["tpu"] if row["quantity"] == "time to load the weights"]
    assert (tile["published"], round(tile["error_percent"], 1)) == (18.0, -3.6)


def test_an_unknown_comparison_is_named():
    result = invoke("validate", "gemini")
    assert result.exit_code == 2
    assert "unknown comparison 'gemini'" in words(result)
    assert "did you mean 'gemmini'" in words(result)


def test_a_page_that_cannot_be_written_is_one_message(tmp_path, monkeypatch, capsys):
    page = tmp_path / "absent" / "page.md"
    assert run_main(monkeypatch, "validate", "gemmini", "--out", str(page)) == 2
    assert f"Error: can't write {page}" in capsys.readouterr().err
