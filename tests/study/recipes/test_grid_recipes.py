"""The tables of recipes on DoReFa's grids, and of those that train other nets beside the model."""

from typing import Any

import pytest
from pydantic import ValidationError

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.study.recipes import RECIPES, RecipeContext
from lowbit_sim.training.distillation import JointDistillation
from lowbit_sim.training.guided import GuidedTraining
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.staged_precision import StagedPrecision
from lowbit_sim.training.stochastic_precision import StochasticPrecision

SETTINGS = TrainingSettings(epochs=10, batch_size=10, learning_rate=0.1)
CONTEXT = RecipeContext(seed=3, steps=100, settings=SETTINGS)
W2A2 = {"weight_bits": 2, "activation_bits": 2}


def table(name: str, **keys: Any) -> Any:
    return RECIPES[name].model_validate({"name": name, **keys})


def stages(recipe: Any) -> list[tuple[str, int]]:
    return [(stage.name, stage.steps) for stage in recipe.stages()]


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("dorefa", W2A2, [("W2A2", 100)]),
        ("dorefa", {**W2A2, "pretraining": 0.2}, [("W32A32", 20), ("W2A2", 80)]),
        ("two_step", {**W2A2, "weights_share": 0.3}, [("W2A32", 30), ("W2A2", 70)]),
        ("progressive", {"bits": [32, 8, 2]}, [("W32A32", 33), ("W8A8", 34), ("W2A2", 33)]),
        ("progressive", {"bits": [32, 4], "nested": True}, [("W32A32", 50), ("W4A32", 25), ("W4A4", 25)]),
        ("progressive", {"bits": [8, 4], "shares": [1, 4]}, [("W8A8", 20), ("W4A4", 80)]),
    ],
    ids=["dorefa", "pretraining", "two_step", "progressive", "nested", "shares"],
)
def test_a_line_builds_the_stages_of_a_run(name, keys, expected):
    if "shares" in keys:
        keys = {**keys, "shares": [float(share) for share in keys["shares"]]}
    recipe = table(name, **keys).build(CONTEXT)
    assert isinstance(recipe, StagedPrecision)
    assert stages(recipe) == expected
    assert recipe.restarts == SETTINGS


def test_keys_reach_the_recipes():
    recipe = table("two_step", **W2A2, layers=["features.*"], clip=2.0, learning_rate="whole_run").build(
        CONTEXT
    )
    assert (recipe.layers, recipe.clip, recipe.restarts) == (("features.*",), 2.0, None)
    recipe = table(
        "stochastic_precision",
        **W2A2,
        initial=0.25,
        rise=0.5,
        schedule="stepwise",
        pretraining=0.1,
        batch_norm="split",
        blocks=["features.?"],
    ).build(CONTEXT)
    assert isinstance(recipe, StochasticPrecision)
    assert (recipe.seed, recipe.steps, recipe.batch_norm, recipe.blocks) == (3, 100, "split", ("features.?",))
    assert [recipe.probability_at(t) for t in (9, 10, 60)] == [0.0, 0.25, 1.0]


def test_distillation_reads_its_students():
    recipe = table(
        "distillation", students=[{"weight_bits": 4, "activation_bits": 8}], temperatures=[1.0, 4.0],
        teacher_learning_rate=0.01,
    )  # fmt: skip
    built = recipe.build(CONTEXT)
    assert isinstance(built, JointDistillation)
    assert built.students == (Precision(weight_bits=4, activation_bits=8),)
    assert built.temperatures == (1.0, 4.0)
    assert built.settings == SETTINGS
    assert recipe.described() == (
        "distillation (temperatures (1.0, 4.0), teacher_learning_rate 0.01) beside W4A8"
    )
    # The weights are those of the authors' code for CIFAR-100.
    weights = (
        built.student_weight,
        built.student_distillation,
        built.teacher_weight,
        built.teacher_distillation,
    )
    assert weights == (0.7, 0.7, 1.0, 0.5)


def test_guided_reads_its_keys():
    recipe = table("guided", bits=2, power=2, feature_weight=100.0, features=["features.1"]).build(CONTEXT)
    assert isinstance(recipe, GuidedTraining)
    assert (recipe.bits, recipe.power, recipe.feature_weight, recipe.features) == (
        2,
        2,
        100.0,
        ("features.1",),
    )


@pytest.mark.parametrize(
    ("name", "keys"),
    [("dorefa", {**W2A2, "pretraining": 0.5}), ("two_step", W2A2), ("progressive", {})],
    ids=["dorefa", "two_step", "progressive"],
)
def test_the_run_has_to_have_room_for_the_stages(name, keys):
    with pytest.raises(ValueError, match="a run of 1 steps is too short for its"):
        table(name, **keys).build(RecipeContext(seed=0, steps=1, settings=SETTINGS))


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("dorefa", {"weight_bits": 2}, "activation_bits"),
        ("dorefa", {"weight_bits": 20, "activation_bits": 2}, "weight_bits must be from 1 to 16, or 32"),
        ("dorefa", {**W2A2, "pretraining": 1.0}, "less than 1"),
        ("two_step", {**W2A2, "clip": 0.0}, "greater than 0"),
        ("two_step", {**W2A2, "learning_rate": 0.1}, "'per_stage' or 'whole_run'"),
        ("progressive", {"bits": [2, 4]}, "bits fall from stage to stage"),
        ("progressive", {"bits": [4, 2], "shares": [1.0]}, "each of the 2 widths has one share, got 1"),
        (
            "stochastic_precision",
            {**W2A2, "rise": 0.9, "pretraining": 0.2},
            "more than the whole run together",
        ),
        ("stochastic_precision", {**W2A2, "batch_norm": "both"}, "'shared' or 'split'"),
        ("distillation", {"temperatures": [1.0, 2.0]}, "each of the 1 students has one temperature, got 2"),
        ("distillation", {"students": [{"weight_bits": 2}]}, "activation_bits"),
        ("distillation", {"student_weight": 0.0, "student_distillation": 0.0}, "must not be 0 throughout"),
        ("guided", {}, "bits"),
        ("guided", {"bits": 2, "power": 3}, "1 or 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "none",
)
def test_what_can_not_be_is_refused(name, keys, message):
    with pytest.raises(ValidationError, match=message):
        table(name, **keys)
