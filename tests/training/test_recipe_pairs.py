"""Every two recipes that a study can name train together in either order, or are refused before the first step."""

import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lowbit_sim.study.arms import price_stages, settings, trained_arm, training_stages
from lowbit_sim.study.arms import recipes as recipes_of
from lowbit_sim.study.config import Study
from lowbit_sim.study.data import Dataset, load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import parse_study
from lowbit_sim.study.recipes import RECIPES
from lowbit_sim.training.loop import train
from tests.study.examples import study_table
from tests.study.test_recipes import TABLES

PAIRS = list(itertools.permutations(sorted(RECIPES), 2))

#: Who decides about the grid of a weight or an input, one of whom alone can do so.
_GRIDS = ("dorefa", "progressive", "stochastic_precision", "two_step")

#: Pairs of which it is known why they are refused. Any other may train, or be refused with a reason of its own.
REFUSED: dict[tuple[str, str], str] = {
    (
        "metagrad",
        "hypergradient",
    ): "hypergradient behind it would take the corrected gradients for the loss' deriv",
    ("metagrad", "error_feedback"): "error_feedback behind it would round the corrected gradients",
    **{pair: "its weight is pre-processed already" for pair in itertools.permutations(_GRIDS, 2)},
    **{
        pair: f"{other} puts (weights|inputs) on grids of its own, and a tensor is on one grid alone"
        for other in ("sat", "pact")
        for grid in _GRIDS
        for pair in ((other, grid), (grid, other))
    },
    **{
        (first, copier): f"{first} before it changes the model, and the other net is a copy of it"
        for copier in ("distillation", "guided")
        for first in (*_GRIDS, "sat", "pact")
    },
}

#: Pairs that must train: a refusal of these would be a mistake.
TRAINS = [
    ("distillation", "dorefa"),
    ("distillation", "stochastic_precision"),
    ("distillation", "sat"),
    ("guided", "two_step"),
    ("guided", "progressive"),
    ("guided", "distillation"),
    ("distillation", "guided"),
    ("hypergradient", "metagrad"),
    ("error_feedback", "metagrad"),
    ("error_feedback", "dorefa"),
    ("metagrad", "dorefa"),
    ("dorefa", "metagrad"),
    ("two_step", "hypergradient"),
    ("stochastic_precision", "metagrad"),
    ("sat", "pact"),
    ("pact", "sat"),
    ("sat", "clip_gradient_norm"),
]


@cache
def digits() -> Dataset:
    return load("digits", limit=40, test_limit=20)


def arm_of(*tables: dict[str, Any]) -> Study:
    """A run of two epochs of three steps, emulated: INT8 forward, gradients of 4 bits, 20-bit accumulators."""
    arm = {
        "name": "x",
        "format": "int8",
        "accumulator_bits": 20,
        "gradient": "luq",
        "recipes": list(tables),
    }
    return parse_study(
        study_table(
            data={"name": "digits", "limit": 40, "test_limit": 20},
            model={"name": "small_cnn", "width": 4},
            training={"epochs": 2, "batch_size": 16, "learning_rate": 0.05},
            arms=[arm],
        ),
        "s.toml",
        Path(),
    )


def refusal(*tables: dict[str, Any]) -> str:
    """Why an arm's recipes can't be together; "" where they train to the end."""
    study = arm_of(*tables)
    arm = study.arms[0]
    try:
        stages = training_stages(study, arm, digits())
    except StudyError as error:
        return str(error)
    assert stages
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)
    built = recipes_of(study, arm, digits(), 0)
    result = train(
        trained_arm(study, arm, digits(), 0),
        digits().train,
        digits().test,
        settings(study, arm, 0),
        recipes=built,
    )
    assert result.status == "completed", result.reason
    assert len(result.step_seconds) == 6
    assert result.epochs[0].train_loss != result.epochs[1].train_loss
    return ""


def cases() -> list[Any]:
    """All pairs; those of which nothing is known beforehand are slow: each is a small run."""
    known = {*REFUSED, *TRAINS}
    marks = {pair: () if pair in known else (pytest.mark.slow,) for pair in PAIRS}
    return [pytest.param(*pair, marks=marks[pair], id="-".join(pair)) for pair in PAIRS]


@pytest.mark.parametrize(("first", "second"), cases())
def test_two_recipes_train_or_are_refused_with_a_reason(first, second):
    why = refusal(TABLES[first], TABLES[second])
    expected = REFUSED.get((first, second))
    if expected is not None:
        assert re.search(expected, why)
    if (first, second) in TRAINS:
        assert why == ""
    if why:
        assert re.match("arm 'x': (recipe )?.*(" + "|".join(RECIPES) + ")", why)
        assert len(why) > 60, "a reason is a sentence"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_each_recipe_trains_alone(name):
    assert refusal(TABLES[name]) == ""


def test_three_recipes_train_together():
    assert (
        refusal(TABLES["guided"], TABLES["distillation"], {"name": "progressive", "bits": [32, 8, 2]}) == ""
    )
    assert (
        refusal(TABLES["error_feedback"], TABLES["metagrad"], TABLES["dorefa"], TABLES["clip_gradient_norm"])
        == ""
    )


def test_every_known_pair_is_one():
    assert {*REFUSED, *TRAINS} <= set(PAIRS)
    assert not REFUSED.keys() & set(TRAINS)


def test_prices_name_the_stages(tmp_path):
    import hw_models

    study = arm_of({"name": "two_step", "weight_bits": 2, "activation_bits": 2, "pretraining": 0.5})
    stages = training_stages(study, study.arms[0], digits())
    price = price_stages(stages, hw_models.load("rapid_training"))
    assert [stage.name for stage in price.stages] == ["W32A32", "W2A32", "W2A2"]
    assert price.cost is not None
    mean = sum(stage.share * stage.energy_pj for stage in price.stages)
    assert price.cost.energy_pj == pytest.approx(mean)
