import json
from dataclasses import replace
from pathlib import Path

import pytest

from lowbit_sim.study.arms import price
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.markdown_table import markdown_table, updated_page
from lowbit_sim.study.price import gemm_trace
from lowbit_sim.study.quantities import with_prefix
from lowbit_sim.study.results import to_dict
from tests.study.examples import arm, measured_run, native_arm, result, run
from tests.study.test_report import LOST, MACHINES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]


def test_every_table_of_the_experiments_page_is_that_of_its_record():
    page = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    assert updated_page(page, EXPERIMENTS) == page, "run: lowbit-sim report --update experiments/README.md"
    assert updated_page(page.replace("| fp32 |", "| fp23 |"), EXPERIMENTS) == page


def test_a_line_an_arm_with_what_was_measured():
    study = result(
        native_arm((run(0, 0.95), run(1, 0.93))),
        arm("INT8", (run(0, 0.90, operands=LOST), run(1, 0.92, operands=LOST))),
        arm("a|b", (run(0, 0.5),)),
    )
    assert rows(markdown_table(study, ["accuracy", "difference", "zero", "step", "runs"])) == [
        ["arm", "accuracy, %", "to fp32, points", "operands to zero, %", "step against fp32", "runs"],
        ["---|---|---|---|---|---"],
        ["fp32", "94.00 ± 1.41", "+0.00", "-", "1.0", "2"],
        ["INT8", "91.00 ± 1.41", "-3.00", "12.50", "1.0", "2"],
        ["a\\|b", "50.00", "-44.00", "-", "1.0", "1"],
    ]


def test_recipes_own_training_and_failures_are_shown_where_there_are_any():
    plain = result(native_arm((run(0), run(1))))
    assert rows(markdown_table(plain))[0][-1] == "step against fp32"
    study = result(
        native_arm((run(0), run(1))),
        arm("INT8", (run(0, None), run(1)), recipes="metagrad", overrides="epochs 3"),
    )
    head, _, first, second = rows(markdown_table(study))
    assert head[-4:] == ["recipes", "operands", "own training", "status"]
    assert first[-4:] == ["none", "fp32", "none", "ok"]
    assert second[-4:-1] == ["metagrad", "int8", "epochs 3"]
    assert "diverged" in second[-1]


def test_machines_and_measurements():
    prices = tuple(price(gemm_trace(64, 64, 64, None), machine) for machine in MACHINES)
    study = result(
        native_arm((run(0),), prices),
        arm("INT8", (measured_run(0, [0.5, 1.0]), measured_run(1, [0.5, 2.0])), prices),
    )
    text = markdown_table(study, ["machine:tpu_v1", "measurement:metagrad.gain"])
    head, _, first, second = rows(text)
    cost = prices[2].cost
    assert cost is not None
    assert head == ["arm", "tpu_v1, cycles / energy", "metagrad.gain, last epoch"]
    assert first[1:] == [
        f"{with_prefix(cost.cycles, smallest=0)} / {with_prefix(cost.energy_pj * 1e-12, 'J')}",
        "-",
    ]
    assert second[2] == "1.5 ± 0.7071"


def test_inferences_have_a_column_of_their_own():
    prices = tuple(price(gemm_trace(64, 64, 64, None), machine) for machine in MACHINES)
    study = result(native_arm((run(0),)), arm("INT8", (run(0),), inference=prices))
    head, _, first, second = rows(markdown_table(study, ["inference:tpu_v1"]))
    cost = prices[2].cost
    assert cost is not None
    assert head == ["arm", "inference on tpu_v1, cycles / energy"]
    assert (first[1], second[1]) == (
        "-",
        f"{with_prefix(cost.cycles, smallest=0)} / {with_prefix(cost.energy_pj * 1e-12, 'J')}",
    )


def test_differences_to_the_best_native_arm_and_to_what_was_published():
    slow, fast = native_arm((run(0, 0.90),)), native_arm((run(0, 0.95),))
    study = result(
        replace(slow, name="fp32, lr 1"), replace(fast, name="fp32, lr 2"), arm("INT4", (run(0, 0.94),))
    )
    head, _, *body = rows(markdown_table(study, ["best", "published:metagrad"]))
    assert head[1] == "to fp32, lr 2, points"
    assert "-0.64" in head[2]
    assert [line[1:] for line in body] == [["-5.00", "-4.36"], ["+0.00", "+0.64"], ["-1.00", "-0.36"]]


def test_a_measurement_after_each_epoch():
    study = result(
        native_arm((run(0),)), arm("INT8", (measured_run(0, [0.5, 1.0]), measured_run(1, [0.5, 2.0])))
    )
    head, _, first, second = rows(markdown_table(study, ["trajectory:metagrad.gain"]))
    assert head == ["arm", "metagrad.gain after each epoch"]
    assert (first[1], second[1]) == ("-", "0.5, 1.5")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("acuracy", "unknown column 'acuracy'.*did you mean 'accuracy'"),
        ("published:metgrad", "unknown published figure 'metgrad'.*did you mean 'metagrad'"),
        ("machine:tpu", "unknown machine of the study 'tpu'"),
        ("inference:tpu", "unknown machine of the study that inferences are priced on 'tpu'"),
        ("measurement:gain", "unknown measurement 'gain'"),
    ],
)
def test_unknown_columns_are_named(column, message):
    with pytest.raises(StudyError, match=message):
        markdown_table(result(native_arm((run(0),))), [column])


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "records").mkdir()
    study = result(native_arm((run(0, 0.5),)))
    (tmp_path / "records" / "mine.json").write_text(json.dumps(to_dict(study)))
    return tmp_path


def test_a_page_gets_its_tables(folder):
    first = "# Page\n\n<!-- mine: accuracy, runs -->\nold\n<!-- end of mine -->\n\n"
    page = f"{first}Text.\n\n<!-- mine -->\n<!-- end of mine -->\n"
    fresh = updated_page(page, folder)
    assert fresh.startswith(
        "# Page\n\n<!-- mine: accuracy, runs -->\n| arm | accuracy, % | runs |\n|---|---|---|\n"
    )
    assert "old" not in fresh
    assert fresh.count("| fp32 | 50.00 |") == 2
    assert "<!-- end of mine -->\n\nText.\n\n<!-- mine -->\n| arm | accuracy, % | to fp32, points |" in fresh
    assert updated_page(fresh, folder) == fresh


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- mine -->\n", "the table 'mine' has no end: expected <!-- end of mine -->"),
        ("<!-- absent -->\n<!-- end of absent -->", r"can't read the record .*absent\.json"),
        ("<!-- mine: runns -->\n<!-- end of mine -->", "unknown column 'runns'"),
    ],
)
def test_marks_that_can_not_be_filled_are_named(folder, page, message):
    with pytest.raises(StudyError, match=message):
        updated_page(page, folder)
