import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from lowbit_sim.study.arms import price
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.price import gemm_trace
from lowbit_sim.study.recorded import read_result, study_result
from lowbit_sim.study.report import study_table
from lowbit_sim.study.results import StudyResult, to_dict
from tests.study.examples import arm, native_arm, result, run
from tests.study.test_report import MACHINES

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "experiments" / "records"
OF_STUDIES = [path for path in sorted(RECORDS.glob("*.json")) if "arms" in json.loads(path.read_text())]


def printed(study: StudyResult) -> list[str]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(study_table(study))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def study() -> StudyResult:
    prices = tuple(price(gemm_trace(64, 64, 64, None), machine) for machine in MACHINES)
    return result(
        native_arm((run(0, 0.99), run(1, 0.98)), prices),
        arm(
            "INT8",
            (run(0, 0.9, additions=10, overflows=3), run(1, None)),
            prices,
            recipes="metagrad",
            overrides="epochs 3",
        ),
        arm("INT4", (), prices),
        status="interrupted",
        reason="interrupted from the keyboard",
    )


def test_a_record_gives_the_table_of_its_result(study):
    record = json.loads(json.dumps(to_dict(study)))
    again = study_result(record, "r.json")
    assert printed(again) == printed(study)
    assert to_dict(again)["arms"][1]["mean_accuracy"] == record["arms"][1]["mean_accuracy"]
    assert again.arms[0].prices[0].cost.to_dict() == study.arms[0].prices[0].cost.to_dict()


def test_the_readmes_table_comes_out_of_its_record():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [(file, table)] = re.findall(r"<!-- table: (.*?) -->\n```\n(.*?)```", readme, re.DOTALL)
    shown = [line for line in printed(read_result(ROOT / file)) if line]
    assert [line for line in table.splitlines() if line and not line.startswith("$")] == shown


@pytest.mark.parametrize("path", OF_STUDIES, ids=lambda path: path.stem)
def test_records_of_any_age_load(path):
    study = read_result(path)
    assert all(len(arm.runs) == len(study.seeds) for arm in study.arms)
    assert printed(study)


def test_records_from_before_recipes_and_measurements_load(study):
    record = json.loads(json.dumps(to_dict(study)))
    for each in record["arms"]:
        for key in ("recipes", "overrides", "training"):
            del each[key]
        for ended in each["runs"]:
            for epoch in ended["epochs"]:
                del epoch["measurements"], epoch["operands"]
    old = study_result(record, "r.json")
    assert old.arms[1].recipes == ""
    assert old.arms[1].runs[0].training.epochs[0].measurements == {}


def test_a_run_folder_is_read_by_its_result(tmp_path, study):
    (tmp_path / "result.json").write_text(json.dumps(to_dict(study)))
    assert read_result(tmp_path).title == study.title


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"can't read the record .*r\.json"),
        ("[]", "holds a list"),
        ('{"title": "x"}', r"r\.json is not a record of lowbit-sim compare: it has no arms"),
    ],
)
def test_what_is_no_record_is_named(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(StudyError, match=message):
        read_result(tmp_path / "r.json")
    with pytest.raises(StudyError, match="absent"):
        read_result(tmp_path / "absent.json")


def test_a_key_that_is_missing_is_named(study):
    record = to_dict(study)
    del record["arms"][0]["prices"]
    with pytest.raises(StudyError, match=r"r\.json is no record of lowbit-sim compare: it has no 'prices'"):
        study_result(record, "r.json")
