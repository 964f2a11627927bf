import lowbit_sim as lb
from lowbit_sim.study import describe

MAC = lb.MacUnit(accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24)
STOCHASTIC = lb.Rounding("stochastic", random_bits=8)


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


def test_roundings_that_differ_are_both_named():
    nearest, random = lb.OpSpec.uniform(lb.INT8), lb.OpSpec.uniform(lb.INT8, gradient_rounding=STOCHASTIC)
    spec = lb.OpSpec(output=nearest.output, grad_input=nearest.grad_input, grad_weight=random.grad_weight)
    assert describe.gradient_rounding(spec) == "nearest_even / stochastic (r=8)"
