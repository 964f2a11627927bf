import pytest

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP8_E4M3FN, FP16, FP32, INT8
from lowbit_sim.numerics.rounding import Rounding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": -1}, "chunk=-1"),
        ({"chunk": 2.0}, "chunk=2.0"),
        ({"order": "pairwise"}, "unknown order of summation 'pairwise'"),
        ({"order": "tree", "kahan": True}, "kahan=True needs order='sequential'"),
        ({"rounding": Rounding(overflow="wrap")}, "can't wrap"),
        ({"accumulator": INT8}, "accumulator takes a FloatFormat"),
        ({"outer": "fp32"}, "outer takes a FloatFormat"),
        ({"accumulator": FP4_E2M1}, "fp4_e2m1 has neither infinity nor NaN"),
        ({"outer": FP4_E2M1}, "fp4_e2m1 has neither infinity nor NaN"),
        ({"product": FP4_E2M1}, "fp4_e2m1 has neither infinity nor NaN"),
        ({"product_rounding": Rounding()}, "needs a product format"),
        (
            {"product": FP16, "product_rounding": Rounding("stochastic", random_bits=3)},
            "products are not rounded stochastically",
        ),
        ({"rounding": Rounding("stochastic", random_bits=28)}, "draws at most 27, got random_bits=28"),
        (
            {"accumulator": FP16, "outer": FP32, "rounding": Rounding("stochastic", random_bits=32)},
            "outer fp32 has 23 mantissa bits",
        ),
    ],
)
def test_bad_units_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FloatMacUnit(**arguments)


def test_what_a_format_without_infinity_takes():
    saturating = Rounding(overflow="saturate")
    assert FloatMacUnit(accumulator=FP4_E2M1, rounding=saturating).result_format == FP4_E2M1
    assert FloatMacUnit(accumulator=FP8_E4M3FN).result_format == FP8_E4M3FN
    product = FloatMacUnit(rounding=saturating, product=FP4_E2M1)
    assert product.rounding_of_products == saturating


def test_additions():
    assert FloatMacUnit().additions(100) == 100
    assert FloatMacUnit(order="tree").additions(100) == 100
    assert FloatMacUnit(chunk=64).additions(100) == 102
    assert FloatMacUnit(outer=FP16).additions(100) == 101
    assert FloatMacUnit(chunk=64, kahan=True).additions(100) == 408
    assert FloatMacUnit(chunk=64).additions(0) == FloatMacUnit(kahan=True).additions(0) == 0


def test_text():
    assert str(FloatMacUnit()) == "fp32 nearest_even"
    unit = FloatMacUnit(
        accumulator=FP16,
        rounding=Rounding("stochastic", random_bits=8),
        chunk=64,
        outer=FP32,
        order="tree",
        product=BF16,
    )
    assert (
        str(unit)
        == "fp16 stochastic (r=8) saturate tree of bf16 nearest_even products in chunks of 64 into fp32"
    )
