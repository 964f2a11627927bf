import dataclasses

import pytest

from lowbit_sim.ghn.metrics import MetaResult
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.results import (
    FineTuning,
    GhnArm,
    GhnResult,
    GhnRun,
    InferencePrice,
    MachinePrice,
    NetworkScore,
    ghn_result,
    to_dict,
)
from lowbit_sim.study.ghn.tables import Choice, markdown, parse_choice, table, tables_of

TRAINED = MetaResult(status="completed", reason="", epochs=())


def score(split: str, number: int, batch: float, recalibrated: float = 0.0) -> NetworkScore:
    by = {"batch": batch, "recalibrated": recalibrated}
    return NetworkScore(
        split=split, number=number, accuracies={"W32A32": by, "W4A4": {**by, "batch": batch / 2}}
    )


def run(seed: int, *accuracies: float) -> GhnRun:
    scores = [score("test", number, each) for number, each in enumerate(accuracies)]
    tuned = FineTuning(number=0, learning_rate=0.05, status="completed", accuracies=(0.5 + seed / 10, 0.7))
    return GhnRun(
        seed=seed, training=TRAINED, scores=(*scores, score("deep", 0, 0.1, 0.3)), fine_tunings=(tuned,)
    )


def price(machine: str = "m", **values: float) -> MachinePrice:
    return MachinePrice(
        machine=machine, cycles=1e6, energy_pj=4e6, energy_by_role={"output": 3e6, "update": 1e6}, **values
    )


RESULT = GhnResult(
    title="t",
    question="",
    data="d",
    classes=10,
    test_examples=32,
    seeds=(0, 1),
    status="completed",
    precisions=("W32A32", "W4A4"),
    splits={"test": 3, "deep": 1},
    arms=(
        GhnArm(
            name="float",
            strategy="float",
            steps=100,
            prices=(price(), MachinePrice(machine="n", refusal="no floats")),
            runs=(run(0, 0.2, 0.4, 0.9), run(1, 0.4, 0.4, 0.7)),
        ),
        GhnArm(name="empty", strategy="float", steps=100),
    ),
    random_starts=(GhnRun(seed=0, training=None, fine_tunings=(run(0).fine_tunings[0],)),),
    inference=(
        InferencePrice(precision="W32A32", networks=3, price=price()),
        InferencePrice(precision="W4A4", networks=3, price=price()),
    ),
)


def test_accuracies_are_means_over_seeds_then_networks():
    found = table(RESULT, "accuracy")
    # Networks 0.3, 0.4, 0.8: mean 50, deviation 26.5 over the root of 3.
    assert found.headings == ("arm", "W32A32", "W4A4")
    assert found.rows[0] == ("float", "50.0 ± 15.3 (90.0)", "25.0 ± 7.6 (45.0)")
    assert found.rows[1] == ("empty", "-", "-")
    assert found.rows[2] == ("chance", "10.0", "10.0")
    assert found.title == "accuracy, % on 3 networks of split 'test', batch-norms by the batch"


def test_a_split_and_its_statistics_can_be_chosen():
    found = table(RESULT, "accuracy", Choice(split="deep", statistics="recalibrated"))
    assert found.rows[0] == ("float", "30.0 (30.0)", "30.0 (30.0)")
    by_split = table(RESULT, "by_split", Choice(precision="W32A32"))
    assert by_split.headings == ("arm", "test (3)", "deep (1)")
    assert by_split.rows[0] == ("float", "50.0 ± 15.3 (90.0)", "10.0 (10.0)")


def test_seeds_stand_beside_each_other():
    assert table(RESULT, "by_seed").rows[0] == ("float", "50.0, 50.0: ± 0.0", "25.0, 25.0: ± 0.0")


def test_fine_tuning_has_a_row_for_each_start():
    found = table(RESULT, "fine_tuning")
    assert found.headings == ("start", "learning rate", "epoch 1", "epoch 2")
    assert found.rows == (
        ("float", "0.05", "55.0", "70.0"),
        ("He initialisation", "0.05", "50.0", "70.0"),
    )


def test_costs():
    cost = table(RESULT, "training_cost")
    assert cost.headings == ("arm", "m", "n")
    assert cost.rows[0] == ("float", "1.00M / 4.00 µJ, 25 %; 400 µJ", "-")
    assert table(RESULT, "inference_cost").rows[1] == ("W4A4", "1.00M / 4.00 µJ")


def test_markdown():
    text = markdown(table(RESULT, "accuracy"))
    assert text.splitlines()[:3] == [
        "| arm | W32A32 | W4A4 |",
        "|---|---|---|",
        "| float | 50.0 ± 15.3 (90.0) | 25.0 ± 7.6 (45.0) |",
    ]


def test_a_mark_s_words():
    assert parse_choice(RESULT, []) == (
        "accuracy",
        Choice(split="test", statistics="batch", precision="W4A4"),
    )
    name, choice = parse_choice(RESULT, ["by_split", "statistics:recalibrated", "precision:W32A32"])
    assert (name, choice.statistics, choice.precision) == ("by_split", "recalibrated", "W32A32")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["acuracy"], "unknown table 'acuracy'"),
        (["split:wide"], "unknown split 'wide'"),
        (["spilt:deep"], "unknown choice of a table 'spilt'"),
        (["statistics:running"], "unknown statistics 'running'"),
    ],
)
def test_words_that_ask_for_nothing(words, message):
    with pytest.raises(StudyError, match=message):
        table(RESULT, *parse_choice(RESULT, words))


def test_a_report_leaves_out_what_there_is_not():
    assert len(tables_of(RESULT)) == 2 * 2 + 3
    assert len(tables_of(dataclasses.replace(RESULT, random_starts=(), inference=()))) == 4


def test_the_result_reads_back_from_its_record():
    assert ghn_result(to_dict(RESULT)) == RESULT
