"""[arithmetic] is an arm of a study: the same keys make the same numerics."""

import pytest
import torch
from pydantic import ValidationError

import hw_models
import lowbit_sim as lb
from hw_models.schema.arithmetic import Arithmetic
from lowbit_sim.study.numerics_config import NumericsTable, op_spec
from tests.hw_models.example import example
from tests.study.tables import NUMERICS


def arithmetic(**keys) -> Arithmetic:
    return Arithmetic.model_validate({"source": "assumption: for the test", **keys})


@pytest.mark.parametrize("table", NUMERICS, ids=range(len(NUMERICS)))
def test_the_numerics_are_those_of_a_study(table):
    profile = example().model_copy(update={"arithmetic": arithmetic(**table)})
    assert profile.op_spec() == op_spec(NumericsTable.model_validate(table))


@pytest.mark.parametrize("table", NUMERICS, ids=range(len(NUMERICS)))
def test_it_reads_back_from_its_values(table):
    given = arithmetic(**table)
    again = Arithmetic.model_validate(given.model_dump())
    assert again == given
    assert hash(again) == hash(given)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "format"),
        ({"format": "int8", "native": True}, "native"),
        ({"format": "int8", "profile": "tpu_v1"}, "profile"),
        ({"format": "int8", "chunk": 4, "mac": {"chunk": 4}}, "chunk would have no effect beside mac"),
        (
            {"format": "mxfp4", "granularity": {"block": 16}},
            "granularity would have no effect: mxfp4 brings its own",
        ),
        ({"format": "bf16", "accumulator_bits": 16}, "a MacUnit can't add its products, a FloatMacUnit can"),
    ],
    ids=["no format", "native", "profile", "two units", "blocks", "float"],
)
def test_what_can_not_be(keys, message):
    with pytest.raises(ValidationError, match=message):
        arithmetic(**keys)


def test_sums_become_codes_by_the_machines_rule():
    sums = torch.tensor([-70000, -3, 3, 100, 70000])
    by_float = arithmetic(format="int8").requantize(0.5)
    assert by_float == lb.FloatRequantizer(scale=0.5)
    twice = arithmetic(format="int8", requantizer="integer_double").requantize(0.5)
    once = arithmetic(format="int8", requantizer="integer_single").requantize(0.5, lb.INT4)
    assert twice == lb.IntegerRequantizer.from_scale(0.5)
    assert once == lb.IntegerRequantizer.from_scale(0.5, rounding="single", format=lb.INT4)
    assert by_float(sums).tolist() == [-127, -2, 2, 50, 127]
    assert twice(sums).tolist() == [-127, -1, 2, 50, 127]  # ties go up
    assert once(sums).tolist() == [-7, -1, 2, 7, 7]


def test_a_native_gemm_has_no_spec():
    profile = example(('format = "int8"', 'format = "int8"\ngrad_weight = { native = true }'))
    assert profile.gemm_spec("grad_weight") is None
    assert profile.gemm_spec("output") is not None


def test_a_role_that_is_none():
    with pytest.raises(ValueError, match="unknown GEMM role 'update'"):
        example().gemm_spec("update")


def test_the_specs_are_built_once():
    assert example().op_spec() is hw_models.parse(hw_models.template("mine"), "mine.toml").op_spec()
