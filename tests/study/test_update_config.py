import pytest
from pydantic import ValidationError

import lowbit_sim as lb
from lowbit_sim.config.elementwise_config import ElementwiseTable
from lowbit_sim.study.update_config import UpdateTable
from lowbit_sim.training.update_spec import UpdateSpec
from tests.study.tables import ELEMENTWISE, STOCHASTIC, UPDATES

ROUNDING = lb.Rounding("stochastic", random_bits=8)


def test_names_are_casts_and_share_the_rounding():
    table = UpdateTable.model_validate({"weight": "bf16", "momentum": "bf16", "rounding": STOCHASTIC})
    both = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0), rounding=ROUNDING)
    assert table.build() == UpdateSpec(weight=both, momentum=both)


def test_a_tensor_can_have_a_scale_and_a_rounding_of_its_own():
    table = UpdateTable.model_validate(
        {
            "weight": "fp16",
            "gradient": {"format": "int8", "scale": "power_of_two", "rounding": {"mode": "up"}},
            "rounding": STOCHASTIC,
            "state_reads": "unrounded",
        }
    )
    assert table.build() == UpdateSpec(
        weight=lb.Quantizer(lb.FP16, scale=lb.FixedScale(1.0), rounding=ROUNDING),
        gradient=lb.Quantizer(lb.INT8, scale=lb.PowerOfTwoScale(), rounding=lb.Rounding("up")),
        state_reads="unrounded",
    )


def test_an_element_wise_table():
    table = ElementwiseTable.model_validate({"output": "bf16", "grad_input": "fp8_e5m2"})
    assert table.build() == lb.ElementwiseSpec(
        output=lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0)), grad_input=lb.Quantizer(lb.FP8_E5M2)
    )


@pytest.mark.parametrize(
    ("model", "keys"),
    [*((UpdateTable, u) for u in UPDATES), *((ElementwiseTable, e) for e in ELEMENTWISE)],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_what_is_written_builds_the_same(model, keys):
    table = model.model_validate(keys)
    written = table.written()
    assert written.build() == table.build()
    assert written.written() == written
    assert model.model_validate(written.model_dump(exclude_none=True)) == written


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        (UpdateTable, {}, "give one or more of weight, momentum, second_moment, gradient"),
        (UpdateTable, {"third_moment": "bf16"}, "Extra inputs"),
        (UpdateTable, {"weight": {"format": "bf16", "scale": "ema"}}, "depends on past steps"),
        (
            UpdateTable,
            {"weight": {"format": "bf16", "rounding": STOCHASTIC}, "rounding": STOCHASTIC},
            "rounding would have no effect",
        ),
        (ElementwiseTable, {}, "give one or more of output, grad_input, grad_output"),
        (ElementwiseTable, {"output": {"format": "int8", "scale": "learned"}}, "learned scale"),
        (ElementwiseTable, {"output": 8}, "expected a format's name or a table"),
    ],
)
def test_what_can_not_be_is_refused(model, keys, message):
    with pytest.raises(ValidationError, match=message):
        model.model_validate(keys)
