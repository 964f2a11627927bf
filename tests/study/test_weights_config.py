import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lowbit_sim.nn.weight_preprocessing import BWNWeight, DoReFaWeight
from lowbit_sim.study.arms import build_arm, priced_arm, training_step
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study, parse_study
from lowbit_sim.study.run import run_study
from lowbit_sim.study.weights_config import WeightsTable, preprocess
from tests.study.examples import study, study_table

BWN = {"preprocessing": "bwn"}
DOREFA = {"preprocessing": "dorefa", "bits": 4}
METAGRAD = {"name": "metagrad", "hypernetwork": "fc_grad"}
FIRST, HIDDEN, LAST = LAYERS = ["1", "3", "5"]  # the layers of the mlp


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", None, limit=64, test_limit=32)


def arm_of(**keys):
    return study(arms=[{"name": "arm", **keys}])


def preprocessed(model: nn.Module) -> dict[str, nn.Module]:
    """The pre-processing of each layer that has one."""
    found = {path: getattr(m, "parametrizations", {}) for path, m in model.named_modules()}
    return {path: own["weight"][0] for path, own in found.items() if own}


def built(digits: Dataset, **keys) -> nn.Module:
    subject = arm_of(**keys)
    return build_arm(subject, subject.arms[0], digits, seed=0)


@pytest.mark.parametrize("numerics", [{"native": True}, {"format": "int8"}], ids=str)
def test_every_layer_of_an_arm_is_pre_processed(digits, numerics):
    plain, model = built(digits, **numerics), built(digits, **numerics, weights=DOREFA)
    found = preprocessed(model)
    assert sorted(found) == LAYERS
    assert {(type(p), p.bits) for p in found.values()} == {(DoReFaWeight, 4)}
    expected = DoReFaWeight(4).quantized(plain.get_submodule(LAST).weight.detach())
    assert torch.equal(model.get_submodule(LAST).weight, expected)


def test_a_rule_decides_about_its_layers(digits):
    by_rule = built(digits, native=True, weights=BWN, rules=[{"path": LAST, "native": True}])
    assert {path: type(p) for path, p in preprocessed(by_rule).items()} == {
        FIRST: BWNWeight,
        HIDDEN: BWNWeight,
    }
    only = built(digits, native=True, rules=[{"path": LAST, "format": "int4", "weights": DOREFA}])
    assert {path: type(p) for path, p in preprocessed(only).items()} == {LAST: DoReFaWeight}
    beside = built(
        digits, format="int8", weights=BWN, rules=[{"path": "2", "elementwise": {"output": "bf16"}}]
    )
    assert sorted(preprocessed(beside)) == LAYERS


def test_the_parts_of_a_layer_are_its_own_affair():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "linear": nn.Linear(4, 4)})
    preprocess(model, [("attention", WeightsTable(**BWN)), ("*", WeightsTable(**DOREFA))])
    kinds = {path: type(p) for path, p in preprocessed_by_name(model).items()}
    assert kinds == {
        "attention.in_proj_weight": BWNWeight,
        "attention.out_proj.weight": BWNWeight,
        "linear.weight": DoReFaWeight,
    }


def preprocessed_by_name(model: nn.Module) -> dict[str, nn.Module]:
    return {
        f"{path}.{name}": steps[0]
        for path, m in model.named_modules()
        for name, steps in getattr(m, "parametrizations", {}).items()
    }


def test_a_pre_processing_that_no_layer_takes_is_an_error(digits):
    rules = [{"path": path, "format": "int8"} for path in LAYERS]
    # The arm's own numerics are not without effect: its activations are for the modules without GEMMs.
    subject = arm_of(format="int8", activations={"output": "bf16"}, weights=BWN, rules=rules)
    message = "arm 'arm': weights = 'bwn' for the layers '*': there is none that no rule before took"
    with pytest.raises(StudyError, match=re.escape(message)):
        build_arm(subject, subject.arms[0], digits, seed=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"native": True, "weights": {"preprocessing": "dorefe"}},
            r"arms\[0\].weights.preprocessing = 'dorefe': unknown pre-processing of weights 'dorefe'.*'dorefa'",
        ),
        (
            {"native": True, "weights": {**DOREFA, "bit": 4}},
            r"arms\[0\].weights.bit: unknown key in \[arms\[0\].weights\] 'bit'.*did you mean 'bits'",
        ),
        ({"native": True, "weights": {**DOREFA, "bits": 0}}, r"arms\[0\].weights.bits = 0: .*"),
        ({"native": True, "weights": {**DOREFA, "bits": 25}}, r"arms\[0\].weights.bits = 25: .*"),
        (
            {"native": True, "weights": {**BWN, "bits": 1}},
            r"arms\[0\].weights.bits: bwn has no bits of its own",
        ),
        ({"native": True, "weights": {"bits": 1}}, r"arms\[0\].weights.preprocessing: this key is missing"),
        (
            {"native": True, "rules": [{"path": "2", "elementwise": {"output": "bf16"}, "weights": BWN}]},
            r"arms\[0\].rules\[0\].weights.*: this rule is for modules without weights",
        ),
        ({"native": "fp15"}, r"arms\[0\].native = 'fp15': expected true for float32, or the format"),
        (
            {"native": "bf16", "rules": [{"path": LAST, "native": True}]},
            r"arms\[0\].rules.*: a model is in bf16 as a whole: native = \"bf16\" takes no rules",
        ),
        (
            {"format": "int8", "rules": [{"path": LAST, "native": "bf16"}]},
            r"arms\[0\].rules\[0\].native: .* give the arm native = \"bf16\"",
        ),
        ({"native": "bf16", "format": "int8"}, r"give exactly one of .*, got native and format"),
    ],
    ids=str,
)
def test_errors_say_where(keys, message):
    with pytest.raises(StudyError, match=message):
        parse_study(study_table(arms=[{"name": "x", **keys}]), "study.toml", Path())


def test_bits_beside_bwn_are_refused_in_python_too():
    with pytest.raises(ValidationError, match="bwn has no bits"):
        WeightsTable(preprocessing="bwn", bits=1)


@pytest.mark.parametrize(
    ("keys", "operands", "native"),
    [
        ({"native": True}, "fp32", True),
        ({"native": True, "weights": BWN}, "fp32, weights bwn", False),
        ({"format": "int8", "weights": DOREFA}, "int8, weights dorefa (4 bits)", False),
        ({"native": True, "weights": {**DOREFA, "bits": 1}}, "fp32, weights dorefa (1 bit)", False),
        ({"native": True, "rules": [{"path": LAST, "native": True, "weights": BWN}]}, "fp32 (1 rule)", False),
        ({"native": "bf16"}, "bf16 under autocast", False),
        ({"native": "bf16", "weights": BWN}, "bf16 under autocast, weights bwn", False),
    ],
    ids=str,
)
def test_an_arm_in_words_and_whether_others_are_compared_with_it(digits, keys, operands, native):
    subject = arm_of(**keys)
    result = priced_arm(subject, subject.arms[0], digits, [])
    assert (result.operands, result.native) == (operands, native)


def test_a_step_is_billed_with_its_pre_processing_and_correction(digits):
    def kinds(**keys) -> list[str]:
        subject = arm_of(format="int8", **keys)
        return [e.kind for e in training_step(subject, subject.arms[0], digits).vectors]

    assert kinds(weights=DOREFA).count("transform") == 6  # three layers, forward and backward
    assert kinds().count("transform") == 0
    assert "hypernetwork" in kinds(weights=DOREFA, recipes=[METAGRAD])


@pytest.mark.parametrize(
    ("numerics", "recipe"),
    [({"native": True}, [METAGRAD]), ({"format": "int8"}, [METAGRAD]), ({"native": "bf16"}, [])],
    ids=str,
)
def test_a_study_runs_and_goes_on_after_a_stop_with_the_same_bits(tmp_path, numerics, recipe):
    subject = arm_of(**numerics, weights={**DOREFA, "bits": 1}, recipes=recipe)
    whole = run_study(subject, out=tmp_path / "whole")

    def stop(progress):
        if progress.metrics.epoch == 1:  # the first epoch's checkpoint is there
            raise KeyboardInterrupt

    stopped = run_study(subject, out=tmp_path / "stopped", on_epoch=stop)
    assert stopped.result.status == "interrupted"
    again = run_study(subject, out=tmp_path / "stopped")
    assert again.folder == stopped.folder
    losses = [
        [epoch.test_loss for run in outcome.result.arms[0].runs for epoch in run.training.epochs]
        for outcome in (whole, again)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    written = load_study(whole.folder / "study.toml")
    assert written.arms[0].weights == subject.arms[0].weights
    assert written.arms[0].native == subject.arms[0].native


def test_with_a_learning_rate_of_zero_the_correction_is_plain_training(tmp_path):
    frozen = {**METAGRAD, "learning_rate": 0.0}
    arms = [
        {"name": "plain", "native": True, "weights": DOREFA},
        {"name": "frozen", "native": True, "weights": DOREFA, "recipes": [frozen]},
        {"name": "corrected", "native": True, "weights": DOREFA, "recipes": [METAGRAD]},
        {"name": "untouched", "native": True},
    ]
    result = run_study(study(arms=arms), out=tmp_path).result
    losses = [[epoch.test_loss for epoch in arm.runs[0].training.epochs] for arm in result.arms]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0] != losses[3]
