"""The studies of gradient corrections compare like with like: the same forward pass, data, updates and bits."""

import re
from pathlib import Path

import pytest

from lowbit_sim.config.gradient_config import GRADIENTS
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.numerics_config import op_spec

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted(EXPERIMENTS.glob("metagrad_*.toml"))

#: Seeds on which settings were chosen.
TUNED_ON = {100, 101}


@pytest.fixture(scope="module")
def digits() -> Study:
    return load_study(EXPERIMENTS / "metagrad_digits.toml")


def gradient_bits(arm: ArmTable) -> set[int]:
    """Bits of the operands in which the output's gradient enters the two backward GEMMs."""
    spec = op_spec(arm)
    assert spec is not None
    gemms = (spec.grad_input, spec.grad_weight)
    return {gemm.lhs.element_format.bits for gemm in gemms if gemm is not None}


def named(arm: ArmTable, name: str) -> bool:
    return any(recipe.name == name for recipe in arm.recipes)


def test_all_are_there():
    assert [path.stem.removeprefix("metagrad_") for path in STUDIES] == [
        "cifar10_resnet20_narrow",
        "digits",
        "digits_bits",
        "mnist",
        "mnist_rates",
        "resnet20_cifar10",
        "vgg16_cifar10",
    ]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_arm_makes_the_same_updates_on_seeds_that_chose_nothing(path):
    study = load_study(path)
    updates = [
        (t.epochs, t.batch_size, t.accumulation, t.schedule, t.momentum, t.weight_decay)
        for t in map(study.training_of, study.arms)
    ]
    assert len(set(updates)) == 1
    assert not TUNED_ON & set(study.seeds)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_correction_has_its_controls_with_the_same_forward_pass(path):
    study = load_study(path)
    forward = {str(op_spec(arm).output) for arm in study.arms if not arm.native}  # type: ignore[union-attr]
    assert len(forward) == (2 if "cifar10" in path.stem and "narrow" not in path.stem else 1)
    assert any(named(arm, "metagrad") for arm in study.arms)
    assert any(named(arm, "hypergradient") for arm in study.arms)
    assert any(
        not arm.recipes and arm.gradient is None and gradient_bits(arm) == {4} for arm in emulated(study)
    )
    gradients = {GRADIENTS.table(arm.gradient).name for arm in study.arms if arm.gradient is not None}
    assert gradients & {"codebook", "fitted_codebook"}
    assert "luq" in gradients


def emulated(study: Study) -> list[ArmTable]:
    return [arm for arm in study.arms if not arm.native]


def test_the_digits_study_has_every_control_at_four_bits(digits):
    for arm in emulated(digits):
        if named(arm, "error_feedback"):
            # The weight's gradient has 4 bits, but not before its GEMM.
            assert gradient_bits(arm) == {4, 8}
        elif not arm.name.startswith("INT8"):
            assert gradient_bits(arm) == {4}
    assert {recipe.name for arm in digits.arms for recipe in arm.recipes} == {
        "metagrad",
        "hypergradient",
        "error_feedback",
    }
    assert len(digits.seeds) == 5


def test_every_method_has_the_same_learning_rates(digits):
    """A rate that one method was offered, all were."""
    rates: dict[str, set[float]] = {}
    for arm in digits.arms:
        method = re.sub(r", lr [0-9.]+$", "", arm.name)
        rates.setdefault(method, set()).add(digits.training_of(arm).learning_rate)
    assert len(rates) >= 14
    assert all(found == {0.05, 0.1, 0.2} for found in rates.values())


def test_the_bits_study_goes_from_eight_to_two():
    study = load_study(EXPERIMENTS / "metagrad_digits_bits.toml")
    for arm in emulated(study):
        bits = int(arm.name[1])
        assert gradient_bits(arm) == ({bits, 8} if named(arm, "error_feedback") else {bits}), arm.name
    assert {arm.name[1] for arm in emulated(study)} == set("8432")


@pytest.mark.parametrize("name", ["vgg16", "resnet20"])
def test_the_studies_of_all_of_cifar10_have_both_native_formats(name):
    study = load_study(EXPERIMENTS / f"metagrad_{name}_cifar10.toml")
    assert {arm.name: arm.native for arm in study.arms if arm.native} == {"fp32": True, "bf16": "bf16"}
    assert [arm.name for arm in study.arms if arm.is_native] == ["fp32"]


def test_the_metaquant_study_gives_every_hypernetwork_the_weights_and_rates_of_its_controls():
    study = load_study(EXPERIMENTS / "metaquant_digits.toml")
    assert not TUNED_ON & set(study.seeds)
    updates = {
        (t.epochs, t.batch_size, t.accumulation, t.schedule, t.momentum, t.weight_decay)
        for t in map(study.training_of, study.arms)
    }
    assert len(updates) == 1
    tried: dict[str, set[tuple[str, float]]] = {}
    for arm in study.arms[1:]:
        assert arm.weights is not None
        assert arm.name.startswith({"bwn": "BWN", "dorefa": "DoReFa"}[arm.weights.preprocessing])
        assert arm.weights.bits == (1 if arm.weights.preprocessing == "dorefa" else None)
        [network] = [recipe.hypernetwork for recipe in arm.recipes] or ["none"]  # type: ignore[union-attr]
        pair = arm.weights.preprocessing, study.training_of(arm).learning_rate
        tried.setdefault(network, set()).add(pair)
    assert tried == dict.fromkeys(
        ["none", "fc_grad", "multi_fc", "lstm_fc", "moment_fc"],
        {("bwn", 0.1), ("bwn", 0.05), ("dorefa", 0.1), ("dorefa", 0.05)},
    )
