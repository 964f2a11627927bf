"""Native arms of a study: what they may say, where they run, how they are priced, and INT8's emulated bits."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lowbit_sim.study import native_arms
from lowbit_sim.study.arms import priced_arm, settings, training_step
from lowbit_sim.study.config import Study
from lowbit_sim.study.data import load
from lowbit_sim.study.load_study import StudyError, parse_study, study_toml
from lowbit_sim.study.native_arms import NATIVE_MODES, not_available
from lowbit_sim.study.recorded import study_result
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.run import run_study
from lowbit_sim.study.run_folder import RunFolder
from lowbit_sim.study.selection import ArmRefusedError, refusal, selected
from lowbit_sim.training.device import CPU
from tests.study.examples import study

CUDA = torch.device("cuda")
DIGITS = load("digits", limit=32)


def native(*modes: Any, **changes: Any) -> Study:
    return study(arms=[{"name": f"arm {mode}", "native": mode} for mode in modes], **changes)


def test_fp32_says_the_same_as_true():
    [arm] = native("fp32").arms
    assert arm.native is True
    assert arm.is_native


def test_every_mode_is_read_back_from_its_study():
    subject = resolved(native(True, *NATIVE_MODES))
    again = parse_study(tomllib.loads(study_toml(subject)), "it", Path())
    assert again == subject


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(ValidationError, match='"fp32", "tf32", "bf16", "fp16", "int8"'):
        native("fp61")


@pytest.mark.parametrize("mode", ["tf32", "bf16", "fp16"])
def test_modes_of_the_whole_model_take_no_rules(mode):
    with pytest.raises(ValidationError, match=f"a model is in {mode} as a whole"):
        study(arms=[{"name": "x", "native": mode, "rules": [{"path": "1", "native": True}]}])
    with pytest.raises(ValidationError, match=f"a model is in {mode} as a whole"):
        study(arms=[{"name": "x", "native": True, "rules": [{"path": "1", "native": mode}]}])


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"rules": [{"path": "1", "format": "int8"}]}, "a rule is native = true, for layers in float32"),
        ({"weights": {"preprocessing": "bwn"}}, "reads weights as they are"),
        ({"recipes": [{"name": "metagrad"}]}, "has none: name its parameters"),
    ],
)
def test_what_can_t_be_beside_native_int8(table, match):
    with pytest.raises(ValidationError, match=match):
        study(arms=[{"name": "x", "native": "int8", **table}])


def test_settings_of_each_mode():
    subject = native(True, *NATIVE_MODES)
    known = [(s.autocast, s.tf32) for s in (settings(subject, arm, 0) for arm in subject.arms)]
    assert known == [(None, False), (None, True), ("bf16", False), ("fp16", False), (None, False)]


def test_tf32_is_cuda_s_from_8_0_on(monkeypatch):
    assert "the device is cpu; native = true runs float32 there" in str(not_available("tf32", CPU))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "this device has 7.5; use native = true" in str(not_available("tf32", CUDA))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert not_available("tf32", CUDA) is None


def test_int8_needs_units_that_are_right(monkeypatch):
    monkeypatch.setattr(native_arms, "why_no_integer_units", lambda device: None)
    monkeypatch.setattr(native_arms, "int_mm_is_sound", lambda: False)
    assert 'returns wrong sums on this one; format = "int8" emulates it' in str(not_available("int8", CPU))
    monkeypatch.setattr(native_arms, "is_sound", lambda name, device: True)
    assert not_available("int8", CUDA) is None
    monkeypatch.setattr(native_arms, "why_no_integer_units", lambda device: "it has none")
    assert "it has none" in str(not_available("int8", CUDA))


def test_an_arm_without_units_is_left_out_and_the_others_run(tmp_path):
    told: list[str] = []
    outcome = run_study(native(True, "tf32"), out=tmp_path, tell=told.append)
    why = refusal(native("tf32").arms[0], CPU)
    assert (outcome.result.status, outcome.result.left_out) == ("completed", ())
    assert outcome.result.unavailable == {"arm tf32": why}
    assert [arm.name for arm in outcome.result.arms] == ["arm True"]
    assert told == [f"arm 'arm tf32' is not available here: {why}"]
    record = RunFolder(path=outcome.folder).record(outcome.result)
    assert study_result(record, "it").unavailable == {"arm tf32": why}


def test_an_arm_without_units_that_is_asked_for_is_an_error():
    with pytest.raises(
        ArmRefusedError, match="'arm tf32' can't run on cpu: TF32 is a mode .* are 'arm True'"
    ):
        selected(native(True, "tf32"), ["arm tf32"], CPU)
    with pytest.raises(ArmRefusedError, match="no arm of the study can"):
        selected(native("tf32"), None, CPU)


def test_native_int8_trains_to_the_bits_of_its_emulation(tmp_path):
    rules = [{"path": "classifier", "native": True}]
    arms = [
        {"name": "fp32", "native": True},
        {"name": "native", "native": "int8", "rules": rules},
        {"name": "emulated", "format": "int8", "accumulator_bits": 32, "overflow": "wrap", "rules": rules},
    ]
    outcome = run_study(study(arms=arms, model={"name": "small_cnn", "width": 4}), out=tmp_path)
    _, ours, theirs = outcome.result.arms
    losses = [[epoch.test_loss for epoch in arm.runs[0].training.epochs] for arm in (ours, theirs)]
    assert losses[0] == losses[1]
    assert ours.operands.startswith("int8 on integer units")
    assert ours.accumulator == theirs.accumulator
    assert not ours.native
    assert ours.overflow_share is None
    assert theirs.overflow_share == 0


def test_a_rule_that_no_layer_takes_is_an_error():
    rules = [{"path": "nowhere", "native": True}]
    subject = study(arms=[{"name": "x", "native": "int8", "rules": rules}])
    with pytest.raises(StudyError, match="nowhere"):
        priced_arm(subject, subject.arms[0], DIGITS, [])


@pytest.mark.parametrize(
    ("mode", "formats"),
    [("tf32", {"tf32"}), ("fp16", {"fp16"}), ("bf16", {"bf16"}), ("int8", {"int8"})],
)
def test_a_step_is_priced_with_the_modes_operands(mode, formats):
    subject = native(mode)
    trace = training_step(subject, subject.arms[0], DIGITS)
    assert {operand.format for event in trace.gemms for operand in (event.lhs, event.rhs)} == formats


def test_unscaling_is_a_pass_over_the_gradients():
    subject = native("bf16", "fp16")
    bf16, fp16 = (training_step(subject, arm, DIGITS) for arm in subject.arms)
    assert len(fp16.events) == len(bf16.events) + 1
    updates = [event for event in fp16.events if event.role == "update"]
    assert updates[0].read_bytes == updates[0].write_bytes == 4 * updates[0].elements
    assert updates[0].elements == updates[1].elements


def test_fp16_runs_to_the_end_and_reports_its_scale(tmp_path):
    outcome = run_study(native("fp16"), out=tmp_path)
    [run] = outcome.result.arms[0].runs
    assert run.training.status == "completed"
    assert run.training.epochs[-1].measurements["loss_scale.scale"] == 65536


@pytest.mark.parametrize("recipe", ["dorefa", "stochastic_precision"])
def test_recipes_that_put_layers_on_grids_are_refused_beside_native_int8(recipe):
    table = {"name": recipe, "weight_bits": 2, "activation_bits": 2}
    subject = study(arms=[{"name": "x", "native": "int8", "recipes": [table]}])
    match = f"arm 'x': recipe {recipe}: layer '3' can't switch its precision: it is a .* with a forward pass of its"
    with pytest.raises(StudyError, match=match):
        priced_arm(subject, subject.arms[0], load("digits", limit=64), [])
