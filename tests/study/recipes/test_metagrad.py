import pytest
from pydantic import ValidationError

import lowbit_sim as lb
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.study.recipes import RECIPES, RecipeContext
from lowbit_sim.study.recipes.metagrad import HYPERNETWORKS, MetaGradTable
from lowbit_sim.training.settings import TrainingSettings

CONTEXT = RecipeContext(
    seed=3, steps=10, settings=TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1)
)


def table(**keys) -> MetaGradTable:
    return MetaGradTable.model_validate({"name": "metagrad", **keys})


def test_it_is_known_by_its_name():
    assert RECIPES["metagrad"] is MetaGradTable


def test_one_line_builds_it():
    recipe = table().build(CONTEXT)
    assert isinstance(recipe.hypernetwork, lb.MomentFC)
    assert recipe.seed == 3
    assert recipe._learner.phi == lb.PhiTraining()


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"hypernetwork": "fc_grad", "hidden": 5, "activation": "relu", "initial": "paper"}, lb.FCGrad),
        ({"hypernetwork": "multi_fc", "layers": 3}, lb.MultiFC),
        ({"hypernetwork": "lstm_fc", "hidden": 7}, lb.LSTMFC),
        ({"hypernetwork": "moment_fc", "moment_decay": 0.5}, lb.MomentFC),
    ],
)
def test_each_hypernetwork_has_its_own_keys(keys, kind):
    m = table(**keys).build(CONTEXT).hypernetwork
    assert isinstance(m, kind)
    if "moment_decay" in keys:
        assert m.moment_decay == 0.5


@pytest.mark.parametrize("name", HYPERNETWORKS)
def test_the_defaults_written_here_are_the_classes_own(name):
    kind, defaults = HYPERNETWORKS[name]
    assert [p.tolist() for p in kind().parameters()] == [p.tolist() for p in kind(**defaults).parameters()]
    written = table(hypernetwork=name).written()
    assert {k: getattr(written, k) for k in defaults} == defaults
    assert written.written() == written


def test_numerics_of_the_hypernetwork_and_of_the_gradient():
    keys = table(
        format="int8",
        gradient_quantizer={"format": "int4", "rounding": {"mode": "stochastic", "random_bits": 8}},
        learning_rate=0.01,
        optimizer="sgd",
        schedule="constant",
        parameters=["*.weight"],
        refinement="residual",
    )
    recipe = keys.build(CONTEXT)
    assert isinstance(recipe.hypernetwork.first, EmulatedLayer)
    assert recipe.gradient_quantizer == lb.Quantizer(
        lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8)
    )
    assert recipe._learner.phi == lb.PhiTraining(learning_rate=0.01, optimizer="sgd", schedule="constant")
    assert (recipe.parameters, recipe.refinement) == (("*.weight",), "residual")
    assert keys.written().written() == keys.written()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hypernetwork": "fcgrad"}, "fc_grad"),
        ({"layers": 3}, "moment_fc has no layers: its own keys are hidden, moment_decay"),
        ({"hidden": 0}, "hidden must be a positive integer, got 0"),
        ({"moment_decay": 1.5}, "below 1, got 1.5"),
        ({"learning_rate": -1.0}, "greater than or equal to 0"),
        ({"gradient_quantizer": "int5x"}, "int5x"),
        ({"gradient_quantizer": {"format": "int4", "scale": "ema"}}, "past steps"),
        ({"learningrate": 1.0}, "learningrate"),
    ],
)
def test_what_is_wrong_is_said(keys, message):
    with pytest.raises(ValidationError, match=message):
        table(**keys)


def test_a_quantiser_is_described_as_it_is_printed():
    quantizer = {"format": "int4", "rounding": {"mode": "stochastic", "random_bits": 8}}
    table = MetaGradTable.model_validate({"name": "metagrad", "gradient_quantizer": quantizer})
    assert table.described() == table.written().described()
    assert table.described().endswith("gradient_quantizer int4 stochastic)")
