import json
from pathlib import Path
from typing import Any

import pytest

import hw_models
import lowbit_sim as lb
from lowbit_sim.study.arms import build_arm, recipes
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.run import Progress, run_study
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from tests.study.examples import ARMS, study


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_study_from_end_to_end(tmp_path):
    told: list[Progress] = []
    subject = study(seeds=[3, 4], profiles=["tpu_v1", "edge_npu"])
    outcome = run_study(subject, out=tmp_path, on_epoch=told.append)
    assert outcome.result.status == "completed"
    native, int8 = outcome.result.arms
    assert [run.seed for run in int8.runs] == [3, 4]
    assert [len(run.training.epochs) for run in native.runs] == [2, 2]
    for arm in (native, int8):
        assert [(p.machine, p.cost is None) for p in arm.prices] == [("tpu_v1", False), ("edge_npu", False)]
    assert int8.overflow_share is not None
    order = [(line["arm"], line["seed"], line["epoch"]) for line in metrics_of(outcome.folder)]
    assert order == [(t.arm, t.seed, t.metrics.epoch) for t in told]
    assert order == [(name, seed, epoch) for name in ("fp32", "int8") for seed in (3, 4) for epoch in (0, 1)]
    assert result_of(outcome.folder)["status"] == "completed"


def test_the_folder_runs_again_to_the_same_metrics(tmp_path):
    arms = [
        {"name": "sr", "format": "int4", "gradient_rounding": {"mode": "stochastic", "random_bits": 8}},
        {"name": "machine", "profile": "rapid_training"},
    ]
    first = run_study(study(arms=arms), out=tmp_path)
    again = run_study(load_study(first.folder / "study.toml"), out=tmp_path)
    assert without_times(metrics_of(first.folder)) == without_times(metrics_of(again.folder))


def test_the_written_study_and_result_hold_the_defaults(tmp_path):
    outcome = run_study(study(model={"name": "mlp"}), out=tmp_path)
    written = load_study(outcome.folder / "study.toml")
    assert (written.model.width, written.arms[1].scale, written.training.momentum) == (128, "absmax", 0.9)
    table = result_of(outcome.folder)["study"]
    assert (table["model"]["width"], table["arms"][1]["scale"]) == (128, "absmax")


def test_what_a_machine_can_not_run_has_a_reason_in_place_of_a_price(tmp_path):
    wide = {"name": "int16", "format": "int16", "accumulator_bits": 48}
    outcome = run_study(study(profiles=["tpu_v1"], arms=[wide]), out=tmp_path)
    [price] = outcome.result.arms[0].prices
    assert (price.cost, "int16" in price.refusal) == (None, True)


def test_an_interrupt_leaves_the_runs_that_ended(tmp_path):
    def interrupt(progress: Progress) -> None:
        if (progress.arm, progress.metrics.epoch) == ("int8", 1):
            raise KeyboardInterrupt

    outcome = run_study(study(seeds=[0, 1]), out=tmp_path, on_epoch=interrupt)
    assert outcome.result.status == "interrupted"
    saved = result_of(outcome.folder)
    assert saved["status"] == "interrupted"
    assert [len(arm["runs"]) for arm in saved["arms"]] == [2, 0]
    assert saved["arms"][1]["status"] == "not run"
    assert len(metrics_of(outcome.folder)) == 6  # also the epochs of the run that did not end


def test_an_unexpected_error_is_recorded_and_raised(tmp_path):
    def fail(progress: Progress) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_study(study(), out=tmp_path, on_epoch=fail)
    [folder] = tmp_path.iterdir()
    assert (result_of(folder)["status"], result_of(folder)["reason"]) == ("failed", "RuntimeError: broken")


def test_a_diverged_arm_is_reported_and_the_others_go_on(tmp_path):
    wild = {"epochs": 2, "batch_size": 32, "learning_rate": 1e30}
    outcome = run_study(study(training=wild), out=tmp_path)
    assert outcome.result.status == "completed"
    assert [arm["status"] for arm in result_of(outcome.folder)["arms"]] == ["diverged", "diverged"]


def test_an_unused_rule_is_an_error_before_any_training(tmp_path):
    arms = [ARMS[0], {**ARMS[1], "rules": [{"path": "features.*", "native": True}]}]
    with pytest.raises(
        StudyError, match="arm 'int8': rule 'features.*' matches no layer: the layers are '1', '3', '5'"
    ):
        run_study(study(arms=arms), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_fit_the_data_is_an_error_before_any_training(tmp_path):
    with pytest.raises(StudyError, match="model vgg16 takes images of 32 pixels"):
        run_study(study(model={"name": "vgg16"}), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_data_is_an_error_before_any_training(tmp_path, monkeypatch):
    monkeypatch.delenv("LOWBIT_DATA", raising=False)
    with pytest.raises(StudyError, match="mnist is read from files"):
        run_study(study(data={"name": "mnist"}), out=tmp_path)


def test_rules_come_before_the_arms_own_numerics():
    arms = [{**ARMS[1], "rules": [{"path": "1", "native": True}, {"path": "5", "profile": "edge_npu"}]}]
    subject = study(arms=arms)
    model = build_arm(subject, subject.arms[0], load("digits", limit=8), 0)
    numerics = {layer.path: layer.numerics for layer in lb.summary(model)}
    assert numerics["1"] == "native"
    assert numerics["5"] == str(hw_models.load("edge_npu").op_spec())
    assert numerics["3"] not in (numerics["1"], numerics["5"])


def test_every_arm_of_a_seed_starts_from_the_same_weights():
    subject, data = study(), load("digits", limit=8)
    models = [build_arm(subject, arm, data, 7) for arm in subject.arms]
    states = [model.state_dict() for model in models]
    assert all(states[0][key].equal(states[1][key]) for key in states[0])


def test_an_arm_with_native_rules_throughout_is_native_and_one_with_others_is_not(tmp_path):
    arms = [
        {"name": "mixed", "native": True, "rules": [{"path": "1", "format": "int8"}]},
        {"name": "plain", "native": True, "rules": [{"path": "1", "native": True}]},
    ]
    outcome = run_study(study(arms=arms), out=tmp_path)
    assert [arm.native for arm in outcome.result.arms] == [False, True]


def test_gradient_clipping_is_a_recipe_of_its_arm():
    subject = study(arms=[ARMS[0], {**ARMS[1], "clip_gradient_norm": 2.0}])
    data = load("digits", limit=8)
    built = [recipes(subject, arm, data, 0) for arm in subject.arms]
    assert built == [{}, {"clip_gradient_norm": ClipGradientNorm(max_norm=2.0)}]
