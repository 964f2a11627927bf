import pytest
from pydantic import ValidationError

import hw_models
import lowbit_sim as lb
from lowbit_sim.numerics.catalog import CATALOG
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


@pytest.mark.parametrize("name", [n for n in CATALOG if n != "e8m0"])
def test_every_format_has_uniforms_defaults(name):
    assert spec_of(format=name) == lb.OpSpec.uniform(lb.parse_format(name))


def test_families_of_formats_have_uniforms_defaults():
    for name in ("fixed<8,6>", "bfp<8,16>", "posit<6,1>", "log<3,4>"):
        assert spec_of(format=name) == lb.OpSpec.uniform(lb.parse_format(name))


def test_the_unit_of_a_gemm_follows_its_operands():
    spec = spec_of(format="int8", output={"lhs": "int16"}, grad_weight={"rhs": "fp8_e5m2"})
    assert [spec.output.mac, spec.grad_input.mac, spec.grad_weight.mac] == [
        lb.MacUnit(accumulator_bits=48),
        lb.MacUnit(),
        lb.FloatMacUnit(),
    ]


def test_a_mac_table_is_for_every_gemm_but_those_with_their_own():
    spec = spec_of(
        format="int8",
        mac={"accumulator": "fp16", "chunk": 8},
        grad_weight={"mac": {"accumulator_bits": 20}},
    )
    layer = lb.FloatMacUnit(accumulator=lb.FP16, chunk=8)
    assert [spec.output.mac, spec.grad_input.mac, spec.grad_weight.mac] == [
        layer,
        layer,
        lb.MacUnit(accumulator_bits=20),
    ]


def test_the_accumulator_across_blocks():
    spec = spec_of(format="mxfp4", across={"accumulator": "bf16"}, output={"across": {"kahan": True}})
    assert [spec.output.across, spec.grad_input.across] == [
        lb.FloatMacUnit(kahan=True),
        lb.FloatMacUnit(accumulator=lb.BF16),
    ]


def test_scales_by_sample_are_where_no_gemm_sums_over_the_samples():
    spec = spec_of(format="int8", granularity="sample")
    by_sample, by_tensor = lb.Quantizer(lb.INT8, granularity=lb.PerSample()), lb.Quantizer(lb.INT8)
    assert [(g.lhs, g.rhs) for g in (spec.output, spec.grad_input, spec.grad_weight)] == [
        (by_sample, by_tensor),
        (by_sample, by_tensor),
        (by_tensor, by_tensor),
    ]


def test_blocks_along_the_reduction_are_for_every_operand():
    spec = spec_of(format="int4", granularity={"block": 8})
    assert spec == lb.OpSpec.uniform(lb.INT4, granularity=lb.PerBlock(8))


def test_samples_are_those_of_the_gradient():
    spec = spec_of(
        format="int4",
        gradient_rounding={"mode": "stochastic", "random_bits": 8},
        samples=3,
        grad_weight={"samples": 2},
    )
    assert [g.samples for g in (spec.output, spec.grad_input, spec.grad_weight)] == [1, 3, 2]


def test_an_operand_of_a_table_keeps_what_the_layer_says_of_the_rest():
    spec = spec_of(
        format="int8",
        scale="mse",
        gradient_rounding={"mode": "up"},
        grad_weight={"lhs": {"format": "int4", "scale": "power_of_two"}},
    )
    assert spec.grad_weight.lhs == lb.Quantizer(
        lb.INT4, scale=lb.PowerOfTwoScale(), rounding=lb.Rounding("up")
    )
    assert spec.grad_weight.rhs == lb.Quantizer(lb.INT8, scale=lb.MseScale())


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
        ({"format": "bf16", "accumulator_bits": 16}, "output: lhs has format bf16.*a FloatMacUnit can"),
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
        ({"native": True, "gradient": "luq"}, "gradient would have no effect beside native"),
        ({"profile": "tpu_v1", "mac": {"chunk": 4}}, "mac would have no effect beside profile"),
        ({"format": "int8", "mac": {"chunk": 3}, "chunk": 2}, "chunk would have no effect beside mac"),
        ({"format": "int8", "mac": 3}, "expected a table, as in { accumulator_bits = 16 }, got 3"),
        (
            {"format": "int8", "mac": {"chunk": 3}, "output": {"chunk": 2}},
            "output: chunk can't change the layer's mac",
        ),
        (
            {"format": "fp8_e4m3fn", "mac": {"accumulator_bits": 32}},
            "output: lhs has format fp8_e4m3fn.*a FloatMacUnit can",
        ),
        (
            {"format": "int8", "mac": {"products": "kulkarni", "product_bits": 4}},
            "output: lhs has codes from -127 to 127, but the products of kulkarni",
        ),
        ({"format": "int8", "across": {}}, "across would have no effect.*no operand has any"),
        (
            {"format": "int8", "output": {"lhs": "mxint8"}, "grad_input": {"across": {}}},
            "grad_input: across would have no effect: no operand has blocks",
        ),
        ({"format": "mxfp4", "scale": "absmax"}, "scale would have no effect: mxfp4 brings its own"),
        ({"format": "mxfp4", "granularity": "tensor"}, "granularity would have no effect"),
        ({"format": "mxfp4", "output": {"lhs": "nvfp4"}}, "blocks of 16 and rhs of 32"),
        ({"format": "int8", "granularity": {"axis": 0}}, "names an axis, which is another one in each"),
        (
            {"format": "int8", "grad_weight": {"lhs": {"format": "int8", "granularity": "sample"}}},
            "grad_weight: lhs, the grad_output, has a scale for each index of its first axis",
        ),
        (
            {"format": "int8", "grad_input": {"rhs": {"format": "int8", "granularity": "channel"}}},
            "grad_input: rhs, the weight, has a scale for each index of its first axis",
        ),
        (
            {
                "format": "int8",
                "output": {
                    "lhs": {"format": "int8", "rounding": {"mode": "up"}},
                    "lhs_rounding": {"mode": "up"},
                },
            },
            "lhs has a rounding already",
        ),
        ({"format": "int8", "samples": 2}, "grad_input: samples=2 of lhs are all alike"),
        ({"format": "int8", "scale": "learned"}, "grad_output in grad_input can't be learned"),
        ({"format": "bf16", "scale": "minmax"}, "output: lhs: MinMaxScale has a zero point"),
        ({"format": "int8", "transform": "hadamard"}, r"write \{ name = 'hadamard', block = ... \}"),
        (
            {"format": "int8", "gradient": "luq", "gradient_rounding": {"mode": "up"}},
            "gradient_rounding would have no effect beside gradient",
        ),
        ({"format": "int8", "gradient": "luq", "samples": 2}, "samples would have no effect beside gradient"),
        (
            {"format": "int8", "gradient": "luq", "grad_input": {"lhs_rounding": {"mode": "up"}}},
            "grad_input: lhs_rounding would have no effect beside gradient",
        ),
        (
            {
                "format": "int8",
                "gradient": "luq",
                "grad_input": {"lhs": "int4"},
                "grad_weight": {"native": True},
            },
            "gradient would have no effect: grad_input and grad_weight have an lhs of their own",
        ),
        (
            {"format": "int8", "gradient": "bhq", "grad_input": {"transform": "householder"}},
            "gradient brings a transform of its own",
        ),
        (
            {"format": "int8", "gradient": "bhq", "transform": {"name": "hadamard", "block": 4}},
            "gradient brings a transform of its own",
        ),
        (
            {
                "format": "int8",
                "gradient": "luq",
                "grad_input": {"native": True},
                "grad_weight": {"native": True},
            },
            "gradient would have no effect.*both are native",
        ),
    ],
)
def test_what_can_not_be_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        NumericsTable.model_validate(keys)
