"""Recipes in study files: `recipes = [{ name = "...", ... }]`, and an arm's own hyperparameters."""

from pathlib import Path
from typing import Any

import pytest

from lowbit_sim.study import describe
from lowbit_sim.study.arms import priced_arm, recipes, settings
from lowbit_sim.study.config import Study
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study, parse_study, study_toml
from lowbit_sim.study.recipes import RECIPES, RecipeContext
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.run import run_study
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from lowbit_sim.training.metrics import EpochMetrics
from lowbit_sim.training.settings import TrainingSettings
from tests.study.examples import study, study_table

CLIP = {"name": "clip_gradient_norm", "max_norm": 2.0}

#: A table of each recipe with what it needs; a new recipe adds its line.
TABLES: dict[str, dict[str, Any]] = {
    "clip_gradient_norm": CLIP,
    "error_feedback": {"name": "error_feedback", "quantizer": "int4"},
    "hypergradient": {"name": "hypergradient", "hyper_learning_rate": 0.01},
    "metagrad": {"name": "metagrad"},
    "distillation": {"name": "distillation"},
    "dorefa": {"name": "dorefa", "weight_bits": 2, "activation_bits": 2},
    "guided": {"name": "guided", "bits": 2},
    "pact": {"name": "pact"},
    "progressive": {"name": "progressive", "bits": [32, 2]},
    "sat": {"name": "sat"},
    "stochastic_precision": {"name": "stochastic_precision", "weight_bits": 2, "activation_bits": 2},
    "two_step": {"name": "two_step", "weight_bits": 2, "activation_bits": 2},
}
HYPERGRADIENT = TABLES["hypergradient"]

CONTEXT = RecipeContext(
    seed=0, steps=4, settings=TrainingSettings(epochs=2, batch_size=32, learning_rate=0.1, weight_decay=0.0)
)


def parse(**arm: Any) -> Study:
    return parse_study(study_table(arms=[{"name": "x", "native": True, **arm}]), "s.toml", Path())


def test_every_recipe_has_its_line():
    assert TABLES.keys() == RECIPES.keys()


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_recipe_is_read_resolved_written_and_built(tmp_path, table):
    first = parse(recipes=[table])
    [read] = first.arms[0].recipes
    assert type(read) is RECIPES[table["name"]]
    [written] = resolved(first).arms[0].recipes
    assert written.written() == written
    assert written.described().startswith(table["name"])
    (tmp_path / "study.toml").write_text(study_toml(resolved(first)))
    assert load_study(tmp_path / "study.toml") == resolved(first)
    for moment in ("before_step", "on_gradients", "after_step"):
        assert callable(getattr(written.build(CONTEXT), moment))


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_keys_that_no_recipe_has_are_named(table):
    with pytest.raises(StudyError, match=r"arms\[0\].recipes\[0\].no_such_key: unknown key"):
        parse(recipes=[{**table, "no_such_key": 1}])


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (
            {"recipes": [{"name": "clip_gradient"}]},
            r"arms\[0\].recipes\[0\]: unknown recipe 'clip_gradient': known are .*did you mean 'clip_gradient_norm'",
        ),
        (
            {"recipes": [{"max_norm": 1.0}]},
            r"arms\[0\].recipes\[0\]: the key 'name' is missing: the recipe, one of ",
        ),
        ({"recipes": [{"name": 3}]}, r"arms\[0\].recipes\[0\]: unknown recipe 3"),
        ({"recipes": ["clip"]}, r"arms\[0\].recipes\[0\] = 'clip': expected a table"),
        ({"recipes": CLIP}, r"arms\[0\].recipes: expected a list, as in \[ ... \]"),
        (
            {"recipes": [CLIP, {**CLIP, "max_norm": 0.0}]},
            r"arms\[0\].recipes\[1\].max_norm = 0.0: Input should be greater than 0",
        ),
        (
            {"recipes": [{"name": "clip_gradient_norm"}]},
            r"arms\[0\].recipes\[0\].max_norm: this key is missing",
        ),
        (
            {"recipes": [CLIP], "clip_gradient_norm": 1.0},
            r"arms\[0\]: clip_gradient_norm is given twice: as a key and among the recipes",
        ),
        (
            {"recipes": [CLIP, TABLES["metagrad"], {**CLIP, "max_norm": 1.0}]},
            r"arms\[0\].recipes\[2\]: clip_gradient_norm is given twice: .*give it once",
        ),
        (
            {"recipes": [{"name": "metagrad", "parameters": "*.weight"}]},
            r'arms\[0\].recipes\[0\].parameters = .*: expected a list, as in \["\*.weight"\]',
        ),
        (
            {"recipes": [{"name": "metagrad", "lr": 0.1}]},
            r"arms\[0\].recipes\[0\].lr: unknown key.*did you mean 'learning_rate'",
        ),
        (
            {"recipes": [{"name": "metagrad", "hypernetwork": "momentfc"}]},
            r"arms\[0\].recipes\[0\].hypernetwork = 'momentfc': expected 'fc_grad', .*did you mean 'moment_fc'",
        ),
        *(
            (
                {"recipes": [{**TABLES[name], "parameters": []}]},
                r"arms\[0\].recipes\[0\]: parameters is empty",
            )
            for name in ("metagrad", "error_feedback")
        ),
        (
            {"training": {"lerning_rate": 0.1}},
            r"arms\[0\].training.lerning_rate: unknown key.*did you mean 'learning_rate'",
        ),
        ({"training": {"learning_rate": -0.1}}, r"arms\[0\].training.learning_rate = -0.1: "),
        (
            {"training": {"accumulation": 33}},
            r"arms\[0\].training: a step of 32 examples has no 33 micro-batches",
        ),
        (
            {"training": {"momentum": 0.0}, "update": {"momentum": "bf16"}},
            "arm 'x': update.momentum would have no effect",
        ),
        (
            {"training": {"optimizer": "adm"}},
            r"arms\[0\].training.optimizer = 'adm': expected 'sgd', 'adam' or 'adamw'; did you mean 'adam'",
        ),
        (
            {"training": {"second_moment_decay": 0.99}},
            "arm 'x': training.second_moment_decay would have no effect: SGD keeps no second moment",
        ),
        (
            {"update": {"second_moment": "bf16"}},
            "arm 'x': update.second_moment would have no effect: SGD keeps no second moment",
        ),
    ],
)
def test_errors_say_where(arm, message):
    with pytest.raises(StudyError, match=f"s.toml: {message}"):
        parse(**arm)


def test_a_wrong_accumulation_of_the_study_is_named():
    table = study_table()
    with pytest.raises(
        StudyError, match="training.accumulation: a step of 32 examples has no 64 micro-batches"
    ):
        parse_study({**table, "training": {**table["training"], "accumulation": 64}}, "s.toml", Path())


def test_recipes_act_in_their_order_and_the_short_key_last():
    subject = parse(recipes=[HYPERGRADIENT, CLIP])
    data = load("digits", limit=40)
    assert list(recipes(subject, subject.arms[0], data, 0)) == ["hypergradient", "clip_gradient_norm"]
    subject = parse(recipes=[HYPERGRADIENT], clip_gradient_norm=2.0)
    built = recipes(subject, subject.arms[0], data, 0)
    assert list(built) == ["hypergradient", "clip_gradient_norm"]
    assert built["clip_gradient_norm"] == ClipGradientNorm(max_norm=2.0)


def test_a_recipe_is_built_for_its_run(monkeypatch):
    seen: list[RecipeContext] = []
    monkeypatch.setattr(RECIPES["clip_gradient_norm"], "build", lambda table, context: seen.append(context))
    subject = parse(recipes=[CLIP], training={"epochs": 3, "learning_rate": 0.4})
    recipes(subject, subject.arms[0], load("digits", limit=40), 7)
    [context] = seen
    assert (context.seed, context.steps) == (7, 3 * 2)
    assert context.settings == settings(subject, subject.arms[0], 7)


def test_what_a_recipe_refuses_names_the_arm(monkeypatch):
    def refuse(table, context):
        raise ValueError("not with these settings")

    monkeypatch.setattr(RECIPES["clip_gradient_norm"], "build", refuse)
    subject = parse(recipes=[CLIP])
    with pytest.raises(StudyError, match="arm 'x': recipe 'clip_gradient_norm': not with these settings"):
        priced_arm(subject, subject.arms[0], load("digits", limit=40), [])


def test_an_arms_own_training_stands_in_place_of_the_studys():
    own = {"epochs": 5, "learning_rate": 0.4, "weight_decay": 0.01, "schedule": "constant", "accumulation": 4}
    subject = parse(training=own)
    defaults = {
        "batch_size": 32,
        "optimizer": "sgd",
        "momentum": 0.9,
        "second_moment_decay": 0.999,
        "recalibration_batches": 0,
    }
    expected = {**defaults, **own}
    assert subject.training_of(subject.arms[0]).model_dump() == expected
    assert settings(subject, subject.arms[0], 3) == TrainingSettings(**expected, seed=3)


def test_recipes_and_own_training_in_words():
    arm = parse(recipes=[CLIP], training={"learning_rate": 0.4, "epochs": 5}).arms[0]
    assert describe.recipes(arm.recipes) == "clip_gradient_norm (max_norm 2.0)"
    assert describe.recipes(arm.recipes, 3.0) == "clip_gradient_norm (max_norm 2.0), clip_gradient_norm 3.0"
    assert describe.overrides(arm.training) == "epochs 5, learning_rate 0.4"
    assert (describe.recipes(()), describe.overrides(None)) == ("", "")


def test_the_record_has_each_arms_training_recipes_and_measurements(tmp_path):
    arms = [
        {"name": "plain", "native": True},
        {
            "name": "own",
            "native": True,
            "recipes": [HYPERGRADIENT],
            "training": {"epochs": 1, "accumulation": 2},
        },
    ]
    outcome = run_study(study(arms=arms), out=tmp_path)
    plain, own = outcome.result.arms
    assert (plain.training["epochs"], own.training["epochs"], own.training["accumulation"]) == (2, 1, 2)
    assert (own.recipes, own.overrides) == (
        "hypergradient (hyper_learning_rate 0.01)",
        "epochs 1, accumulation 2",
    )
    assert [len(arm.runs[0].training.epochs) for arm in (plain, own)] == [2, 1]
    [epoch] = own.runs[0].training.epochs
    assert isinstance(epoch, EpochMetrics)
    assert epoch.measurements
    assert all(name.startswith("hypergradient.") for name in epoch.measurements)
    assert not plain.runs[0].training.epochs[0].measurements
