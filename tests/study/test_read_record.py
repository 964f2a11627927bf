import json
from pathlib import Path

import pytest

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.read_record import read_record

RUN = {"seed": 0, "status": "completed", "steps": 10, "epochs": [{"test_accuracy": 0.5}]}
PRICE = {"machine": "box", "refusal": "", "cost": {"seconds": 0.5, "energy_pj": 2e12}}
RECORD = {"title": "t", "arms": [{"name": "int8", "runs": [RUN, RUN], "prices": [PRICE]}]}


def written(folder: Path, text: str) -> Path:
    path = folder / "r.json"
    path.write_text(text, encoding="utf-8")
    return path


def changed(*place: str | int, to: object = ...) -> str:
    """The record with another value at a place, or without the key there."""
    record = json.loads(json.dumps(RECORD))
    table = record
    for key in place[:-1]:
        table = table[key]
    if to is ...:
        del table[place[-1]]
    else:
        table[place[-1]] = to
    return json.dumps(record)


def test_a_record_is_read_from_a_file_or_a_run_folder(tmp_path):
    assert read_record(written(tmp_path, json.dumps(RECORD))) == RECORD
    (tmp_path / "result.json").write_text(json.dumps(RECORD))
    assert read_record(tmp_path) == RECORD


def test_a_machine_that_refused_an_arm_has_no_cost(tmp_path):
    read_record(written(tmp_path, changed("arms", 0, "prices", 0, "cost", to=None)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{}",
            "r.json is not a record of lowbit-sim compare: it has no arms; give what compare --json wrote",
        ),
        ("[1]", "compare: the file holds a list where a table of keys belongs"),
        ("3", "compare: the file holds 3 where a table of keys belongs"),
        (changed("arms", to={}), "compare: arms holds a table where a list belongs"),
        (changed("arms", 0, to="int8"), r"compare: arms\[0\] holds \"int8\" where a table of keys belongs"),
        (changed("arms", 0, "name"), r"compare: it has no arms\[0\]\.name;"),
        (changed("arms", 0, "prices"), r"compare: it has no arms\[0\]\.prices;"),
        (changed("arms", 0, "runs", 1, "steps"), r"compare: it has no arms\[0\]\.runs\[1\]\.steps;"),
        (
            changed("arms", 0, "runs", 1, "steps", to="10"),
            r"arms\[0\]\.runs\[1\]\.steps holds \"10\" where a whole number belongs",
        ),
        (changed("arms", 0, "runs", 0, "seed", to=True), "seed holds true where a whole number belongs"),
        (
            changed("arms", 0, "runs", 0, "epochs", 0, "test_accuracy", to=None),
            r"epochs\[0\]\.test_accuracy holds null where a number belongs",
        ),
        (
            changed("arms", 0, "prices", 0, "cost", "energy_pj"),
            r"it has no arms\[0\]\.prices\[0\]\.cost\.energy_pj;",
        ),
    ],
)
def test_a_file_that_is_no_record_is_named_with_its_key_and_what_belongs_there(tmp_path, text, message):
    with pytest.raises(StudyError, match=message):
        read_record(written(tmp_path, text))


def test_a_record_that_was_cut_off_has_the_place(tmp_path):
    path = written(tmp_path, json.dumps(RECORD, indent=2)[:60])
    with pytest.raises(
        StudyError, match=r"r\.json: it is cut off or no JSON \(line 6, column \d+: .*give what"
    ):
        read_record(path)


def test_what_can_not_be_read_is_told(tmp_path):
    with pytest.raises(
        StudyError, match=r"absent\.json: there is no such file; give what compare --json wrote"
    ):
        read_record(tmp_path / "absent.json")
    with pytest.raises(StudyError, match=r"result\.json: there is no such file"):
        read_record(tmp_path)
    path = tmp_path / "r.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match=r"r\.json: it is no text in UTF-8"):
        read_record(path)
