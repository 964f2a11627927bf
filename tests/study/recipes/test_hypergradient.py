import pytest
from pydantic import ValidationError

from lowbit_sim.study.recipes import RECIPES, RecipeContext
from lowbit_sim.study.recipes.hypergradient import HypergradientTable
from lowbit_sim.training.settings import TrainingSettings

CONTEXT = RecipeContext(
    seed=3, steps=10, settings=TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1)
)


def table(**keys) -> HypergradientTable:
    return HypergradientTable.model_validate({"name": "hypergradient", **keys})


def test_it_is_known_by_its_name():
    assert RECIPES["hypergradient"] is HypergradientTable


def test_one_line_builds_it():
    recipe = table(hyper_learning_rate=0.02).build(CONTEXT)
    assert (recipe.hyper_learning_rate, recipe.rule, recipe.scope) == (0.02, "additive", "model")
    recipe = table(hyper_learning_rate=1.0, rule="multiplicative", scope="tensor").build(CONTEXT)
    assert (recipe.rule, recipe.scope) == ("multiplicative", "tensor")


def test_every_run_has_one_of_its_own():
    of = table(hyper_learning_rate=0.02)
    assert of.build(CONTEXT) is not of.build(CONTEXT)


@pytest.mark.parametrize(
    "keys",
    [{}, {"hyper_learning_rate": -1.0}, {"hyper_learning_rate": 0.1, "rule": "sum"}, {"rate": 0.1}],
    ids=str,
)
def test_what_can_not_be_is_refused(keys):
    with pytest.raises(ValidationError):
        table(**keys)
