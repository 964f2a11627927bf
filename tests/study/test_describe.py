import pytest

import lowbit_sim as lb
from lowbit_sim.study import describe
from lowbit_sim.study.numerics_config import NumericsTable, op_spec
from lowbit_sim.study.update_config import UpdateTable

MAC = lb.MacUnit(accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24)
STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
STOCHASTIC_16 = {"mode": "stochastic", "random_bits": 16}


def spec_of(**keys) -> lb.OpSpec | None:
    return op_spec(NumericsTable.model_validate(keys))


def test_native():
    assert [describe.operands(None), describe.accumulator(None), describe.gradient_rounding(None)] == [
        "fp32",
        "fp32",
        "none",
    ]


def test_uniform():
    spec = lb.OpSpec.uniform(lb.INT4, mac=MAC, gradient_rounding=STOCHASTIC)
    assert describe.operands(spec) == "int4"
    assert describe.accumulator(spec) == "16-bit saturate, chunks of 32 into 24-bit"
    assert describe.gradient_rounding(spec) == "stochastic (r=8)"


def test_gemms_that_differ_are_listed():
    plain = lb.OpSpec.uniform(lb.INT8)
    mixed = lb.GemmSpec(
        lb.Quantizer(lb.INT4, rounding=STOCHASTIC), lb.Quantizer(lb.INT8), lb.MacUnit(outer_bits=40)
    )
    spec = lb.OpSpec(output=plain.output, grad_input=None, grad_weight=mixed)
    assert describe.operands(spec) == "output int8, grad_input fp32, grad_weight int4 x int8"
    assert describe.accumulator(spec) == (
        "output 32-bit wrap, grad_input fp32, grad_weight 32-bit wrap into 40-bit"
    )
    assert describe.gradient_rounding(spec) == "stochastic (r=8)"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-127.0, -3.0, 0.0, 3.0, 127.0], "codebook5 of 8-bit values x int8"),
        ([-1.5, 0.0, 1.5], "codebook3 of 3-bit values x int8"),
        ([-128.0, 0.0, 64.0], "codebook3 of 3-bit values x int8"),
        ([-1.0, 0.0, 1.0], "codebook3 x int8"),
    ],
    ids=str,
)
def test_a_codebook_says_how_wide_its_values_are(values, words):
    """Codes of few bits may stand for values that take a wider multiplier."""
    spec = spec_of(format="int8", gradient={"name": "codebook", "values": values})
    assert describe.operands(spec) == f"output int8, grad_input and grad_weight {words}"


def test_gemms_that_agree_are_named_together():
    spec = spec_of(format="int4", gradient={"name": "luq", "samples": 2})
    assert describe.operands(spec) == "output int4, grad_input and grad_weight luq4 x int4"
    assert describe.gradient_rounding(spec) == "stochastic (r=8), mean of 2"


@pytest.mark.parametrize(
    ("keys", "operands", "accumulator"),
    [
        ({"format": "bf16"}, "bf16", "fp32"),
        ({"format": "mxfp4"}, "mxfp4", "32-bit wrap, blocks of 32 into fp32"),
        (
            {"format": "nvfp4", "across": {"accumulator": "bf16", "kahan": True}},
            "nvfp4",
            "32-bit wrap, blocks of 16 into bf16 kahan",
        ),
        (
            {"format": "fp8_e4m3fn", "mac": {"accumulator": "fp16", "chunk": 64, "outer": "fp32"}},
            "fp8_e4m3fn",
            "fp16, chunks of 64 into fp32",
        ),
        (
            {
                "format": "int8",
                "mac": {
                    "accumulator": "fp16",
                    "rounding": {"mode": "stochastic", "random_bits": 9, "overflow": "saturate"},
                    "product": "bf16",
                    "order": "tree",
                },
            },
            "int8",
            "fp16 stochastic (r=9) saturate tree, products in bf16",
        ),
        (
            {"format": "int8", "transform": {"name": "hadamard", "block": 32}},
            "int8 after hadamard 32",
            "32-bit wrap",
        ),
        (
            {"format": "int8", "mac": {"accumulator_bits": 16, "products": "mitchell"}},
            "int8",
            "16-bit wrap, products mitchell (8-bit signed)",
        ),
    ],
    ids=str,
)
def test_numerics_beyond_integers(keys, operands, accumulator):
    spec = spec_of(**keys)
    assert (describe.operands(spec), describe.accumulator(spec)) == (operands, accumulator)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"weight": "bf16", "momentum": "bf16", "rounding": STOCHASTIC_16}, "bf16 stochastic (r=16)"),
        ({"weight": "bf16"}, "weight bf16"),
        ({"weight": "bf16", "momentum": "fp16"}, "weight bf16, momentum fp16"),
        (
            {"weight": "bf16", "momentum": "bf16", "gradient": "fp8_e5m2"},
            "weight bf16, momentum bf16, gradient fp8_e5m2",
        ),
    ],
    ids=str,
)
def test_weight_updates(keys, words):
    assert describe.update(UpdateTable.model_validate(keys).build()) == words


def test_roundings_that_differ_are_both_named():
    nearest, random = lb.OpSpec.uniform(lb.INT8), lb.OpSpec.uniform(lb.INT8, gradient_rounding=STOCHASTIC)
    spec = lb.OpSpec(output=nearest.output, grad_input=nearest.grad_input, grad_weight=random.grad_weight)
    assert describe.gradient_rounding(spec) == "nearest_even / stochastic (r=8)"
