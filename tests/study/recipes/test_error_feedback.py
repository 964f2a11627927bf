import pytest
from pydantic import ValidationError

import lowbit_sim as lb
from lowbit_sim.study.recipes import RECIPES, RecipeContext
from lowbit_sim.study.recipes.error_feedback import ErrorFeedbackTable
from lowbit_sim.training.settings import TrainingSettings

CONTEXT = RecipeContext(
    seed=3, steps=10, settings=TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1)
)
SPELLED_OUT = {
    "format": "int4",
    "scale": "power_of_two",
    "granularity": "channel",
    "rounding": {"mode": "stochastic", "random_bits": 8},
}


def table(**keys) -> ErrorFeedbackTable:
    return ErrorFeedbackTable.model_validate({"name": "error_feedback", **keys})


def test_it_is_known_by_its_name():
    assert RECIPES["error_feedback"] is ErrorFeedbackTable


def test_one_line_builds_it():
    recipe = table(quantizer="int4").build(CONTEXT)
    assert (recipe.quantizer, recipe.parameters, recipe.seed) == (lb.Quantizer(lb.INT4), None, 3)


def test_an_operand_s_table_builds_it():
    recipe = table(quantizer=SPELLED_OUT, parameters=["*.weight"]).build(CONTEXT)
    rounding = lb.Rounding("stochastic", random_bits=8)
    assert recipe.quantizer == lb.Quantizer(
        lb.INT4, scale=lb.PowerOfTwoScale(), granularity=lb.PerAxis(0), rounding=rounding
    )
    assert recipe.parameters == ("*.weight",)


@pytest.mark.parametrize("quantizer", ["int4", "mxfp4", SPELLED_OUT], ids=str)
def test_what_is_written_out_builds_the_same(quantizer):
    short = table(quantizer=quantizer)
    written = short.written()
    again = ErrorFeedbackTable.model_validate(written.model_dump(exclude_none=True))
    assert again == written == written.written()
    assert again.build(CONTEXT).quantizer == short.build(CONTEXT).quantizer
    assert not isinstance(written.quantizer, str)
    assert written.quantizer.rounding is not None


def test_it_is_described_in_a_few_words_written_out_or_not():
    short = table(quantizer="int4")
    assert short.described() == short.written().described() == "error_feedback (int4)"
    long = table(quantizer=SPELLED_OUT, parameters=["*.weight", "b"])
    assert long.described() == "error_feedback (int4 axis 0 stochastic, *.weight b)"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "quantizer"),
        ({"quantizer": "int99"}, "unknown format 'int99'"),
        ({"quantizer": {"format": "int4", "scale": "ema"}}, "depends on past steps"),
        ({"quantizer": "int4", "parameters": []}, "parameters is empty"),
        ({"quantiser": "int4"}, "quantiser"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        table(**keys)
