import pytest
from pydantic import ValidationError

import hw_models
import lowbit_sim as lb
from lowbit_sim.study.numerics_config import NumericsTable, op_spec


def spec_of(**keys):
    return op_spec(NumericsTable.model_validate(keys))


def test_native_is_no_spec():
    assert spec_of(native=True) is None


def test_a_format_alone_is_uniform_with_the_default_unit():
    assert spec_of(format="int8") == lb.OpSpec.uniform(lb.INT8)


def test_every_key_of_the_unit_arrives():
    mac = lb.MacUnit(accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24)
    assert spec_of(
        format="int4", accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24
    ) == lb.OpSpec.uniform(lb.INT4, mac=mac)


def test_gradient_rounding_is_for_the_backward_gemms_alone():
    rounding = lb.Rounding("stochastic", random_bits=8)
    assert spec_of(
        format="int4", gradient_rounding={"mode": "stochastic", "random_bits": 8}
    ) == lb.OpSpec.uniform(lb.INT4, gradient_rounding=rounding)


def test_power_of_two_scales():
    assert spec_of(format="int8", scale="power_of_two") == lb.OpSpec.uniform(
        lb.INT8, scale=lb.PowerOfTwoScale()
    )


def test_scales_by_channel_are_for_the_forward_weights_alone():
    spec = spec_of(format="int8", granularity="channel")
    uniform = lb.OpSpec.uniform(lb.INT8)
    assert spec.output.rhs == lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0))
    assert (spec.output.lhs, spec.grad_input, spec.grad_weight) == (
        uniform.output.lhs,
        uniform.grad_input,
        uniform.grad_weight,
    )


def test_an_override_changes_its_gemm_alone():
    spec = spec_of(
        format="int8",
        accumulator_bits=24,
        grad_weight={"lhs": "int4", "chunk": 16, "lhs_rounding": {"mode": "toward_zero"}},
    )
    plain = lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=24))
    assert (spec.output, spec.grad_input) == (plain.output, plain.grad_input)
    assert spec.grad_weight == lb.GemmSpec(
        lb.Quantizer(lb.INT4, rounding=lb.Rounding("toward_zero")),
        lb.Quantizer(lb.INT8),
        lb.MacUnit(accumulator_bits=24, chunk=16),
    )


def test_one_gemm_can_be_native():
    spec = spec_of(format="int8", grad_input={"native": True})
    assert spec.grad_input is None
    assert spec.output is not None


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_a_profile_is_the_machines_numerics(name):
    assert spec_of(profile=name) == hw_models.load(name).op_spec()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "exactly one of native = true, profile and format, got none"),
        ({"native": True, "format": "int8"}, "got native and format"),
        ({"native": True, "accumulator_bits": 16}, "accumulator_bits would have no effect beside native"),
        ({"profile": "tpu_v1", "chunk": 4}, "chunk would have no effect beside profile"),
        (
            {"format": "int8", "output": {"native": True, "chunk": 4}},
            "chunk would have no effect beside native",
        ),
        ({"format": "int88"}, "unknown format 'int88'.*did you mean"),
        ({"format": "bf16"}, "'bf16' is a float format, but the accumulators are integer ones"),
        ({"format": "int8", "accumulator_bits": 4}, "greater than or equal to 8"),
        ({"format": "int8", "accumulator_bits": 16.0}, "valid integer"),
        ({"format": "int8", "overflow": "clip"}, "'wrap', 'saturate'"),
        (
            {"format": "int8", "gradient_rounding": {"mode": "stochastic"}},
            "needs random_bits from 1 to 32, got 0",
        ),
        ({"format": "int8", "gradient_rounding": {"mode": "nearest"}}, "unknown rounding mode 'nearest'"),
        ({"format": "int8", "chunks": 4}, "Extra inputs"),
        (
            {"format": "int8", "granularity": "channel", "output": {"native": True}},
            "granularity = 'channel' would have no effect.*output.*native",
        ),
        (
            {
                "format": "int8",
                "gradient_rounding": {"mode": "up"},
                "grad_input": {"native": True},
                "grad_weight": {"native": True},
            },
            "gradient_rounding would have no effect.*grad_input.*grad_weight",
        ),
        ({"native": True, "chunk": 0}, "chunk would have no effect beside native"),
    ],
)
def test_what_can_not_be_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        NumericsTable.model_validate(keys)
