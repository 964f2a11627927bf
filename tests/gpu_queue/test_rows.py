import json
from pathlib import Path

import pytest

from benchmarks.gpu.rows import FILE, NO_TIME, Rows, rows_in


def test_a_row_that_fails_leaves_the_others_and_says_why(capsys):
    rows = Rows(100)
    rows.add({"n": 1}, lambda: {"equal": True})
    rows.add({"n": 2}, lambda: {"equal": 1 // 0})
    rows.add({"n": 3}, lambda: {"equal": True})
    assert rows.rows[1] == {"n": 2, "failed": "ZeroDivisionError: integer division or modulo by zero"}
    record = rows.record(all_equal=rows.all("equal"))
    assert [row["n"] for row in record["rows"]] == [1, 2, 3]
    assert (record["complete"], record["failed_rows"], record["all_equal"]) == (True, 1, False)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows.rows


def test_rows_that_come_too_late_are_not_begun():
    rows = Rows(0)
    assert rows.add({"n": 1}, pytest.fail)["refused"] == NO_TIME
    assert not rows.record()["complete"]
    assert not rows.all("equal")


def test_no_rows_agree_on_nothing():
    assert not Rows(1).all("equal")


def test_quiet_rows_tell_only_what_is_wrong(capsys):
    rows = Rows(100, quiet=True)
    rows.add({"n": 1}, lambda: {"equal": True})
    rows.add({"n": 2}, lambda: {"equal": False})
    assert json.loads(capsys.readouterr().out) == {"n": 2, "equal": False}


def test_rows_are_on_the_disk_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rows"
    assert rows_in(path) == []
    monkeypatch.setenv(FILE, str(path))
    rows = Rows(100)
    for n in range(2):
        rows.add({"n": n}, dict)
        assert rows_in(path) == rows.rows
    with path.open("a") as file:
        file.write('{"n": 3, "equ')
    assert rows_in(path) == rows.rows
