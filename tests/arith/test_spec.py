"""A GEMM's and a layer's numerics: what can't be, and what is filled in."""

import pytest

import lowbit_sim as lb
from lowbit_sim.arith.spec import MAX_SAMPLES

INT8 = lb.Quantizer(lb.INT8)
STOCHASTIC = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))


@pytest.mark.parametrize(
    ("name", "mac", "scale"),
    [
        ("int8", lb.MacUnit(), lb.AbsMaxScale()),
        ("int9", lb.MacUnit(), lb.AbsMaxScale()),
        ("int10", lb.MacUnit(accumulator_bits=48), lb.AbsMaxScale()),
        ("uint8", lb.MacUnit(), lb.AbsMaxScale()),
        ("fp4_e2m1", lb.MacUnit(), lb.AbsMaxScale()),
        ("log4_radix4", lb.MacUnit(accumulator_bits=48), lb.AbsMaxScale()),
        ("fixed<8,6>", lb.MacUnit(), lb.FixedScale(1.0)),
        ("mxint8", lb.MacUnit(), lb.AbsMaxScale()),
        ("fp8_e4m3fn", lb.FloatMacUnit(), lb.AbsMaxScale()),
        ("mxfp8_e5m2", lb.FloatMacUnit(), lb.AbsMaxScale()),
        ("bf16", lb.FloatMacUnit(), lb.FixedScale(1.0)),
        ("fp16", lb.FloatMacUnit(), lb.AbsMaxScale()),
        ("posit8", lb.FloatMacUnit(), lb.AbsMaxScale()),
    ],
)
def test_what_uniform_fills_in(name, mac, scale) -> None:
    spec = lb.OpSpec.uniform(lb.parse_format(name))
    assert spec.output is not None
    assert spec.output.mac == mac
    assert spec.output.lhs.scale == scale
    assert spec.output == spec.grad_input == spec.grad_weight


def test_what_is_given_is_taken() -> None:
    mac, scale = lb.MacUnit(accumulator_bits=20), lb.PowerOfTwoScale()
    spec = lb.OpSpec.uniform(lb.parse_format("fixed<8,6>"), mac=mac, scale=scale)
    assert spec.output is not None
    assert (spec.output.mac, spec.output.lhs.scale) == (mac, scale)


def test_a_number_of_qtorchs_means_values_as_they_are() -> None:
    qtorch = pytest.importorskip("qtorch")
    for number, name in ((qtorch.FixedPoint(8, 6), "fixed<8,6>"), (qtorch.FloatingPoint(4, 3), "float_e4m3")):
        spec = lb.OpSpec.uniform(number)
        assert spec.output is not None
        assert spec.output.lhs.scale == lb.FixedScale(1.0)
        assert str(spec.output.lhs.format).startswith(name)
    blocks = lb.OpSpec.uniform(qtorch.BlockFloatingPoint(8))
    assert str(blocks.output.lhs.format) == "bfp<8>"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["fp8_e4m3fn", "bf16", "posit8", "mxfp8_e4m3"])
def test_an_integer_unit_takes_whole_multiples_only(name) -> None:
    other = lb.Quantizer(lb.parse_format(name))
    with pytest.raises(ValueError, match="rhs has format .* not whole multiples of one unit within 16 bits"):
        lb.GemmSpec(INT8, other)
    assert lb.GemmSpec(INT8, other, lb.FloatMacUnit()).rhs is other


def test_blocks_of_two_sizes_are_refused() -> None:
    sixteen, thirty_two = lb.Quantizer(lb.parse_format("nvfp4")), lb.Quantizer(lb.parse_format("mxfp4"))
    with pytest.raises(ValueError, match="lhs has blocks of 16 and rhs of 32"):
        lb.GemmSpec(sixteen, thirty_two)
    assert lb.GemmSpec(sixteen, INT8).block == 16
    assert lb.GemmSpec(INT8, thirty_two).block == 32
    assert lb.GemmSpec(INT8, INT8).block == 0


@pytest.mark.parametrize("samples", [0, -1, 1.5, MAX_SAMPLES + 1])
def test_samples_are_a_count(samples) -> None:
    with pytest.raises(ValueError, match=f"samples={samples}"):
        lb.GemmSpec(STOCHASTIC, INT8, samples=samples)


def test_samples_without_random_bits_would_be_alike() -> None:
    with pytest.raises(ValueError, match="samples=2 of lhs are all alike: it rounds nearest_even"):
        lb.GemmSpec(INT8, STOCHASTIC, samples=2)


def test_a_spec_in_words_says_everything() -> None:
    text = str(
        lb.GemmSpec(
            lb.Quantizer(lb.parse_format("mxint8"), rounding=lb.Rounding("stochastic", random_bits=8)),
            lb.Quantizer(lb.parse_format("mxint8")),
            lb.MacUnit(accumulator_bits=24, overflow="saturate"),
            across=lb.FloatMacUnit(accumulator=lb.BF16),
            transform=lb.HadamardTransform(block=32),
            samples=2,
        )
    )
    for words in (
        "mxint8",
        "stochastic",
        "24-bit saturate",
        "blocks of 32 into bf16",
        "adamard",
        "2 samples",
    ):
        assert words in text


def test_a_table_that_does_not_hold_every_code_is_refused() -> None:
    table = lb.MacUnit(products=lb.mitchell_multiplier(8))
    with pytest.raises(ValueError, match="lhs has codes from 0 to 255, but .* from -128 to 127"):
        lb.GemmSpec(lb.Quantizer(lb.UINT8), INT8, table)
    with pytest.raises(ValueError, match="rhs has codes from -32767 to 32767"):
        lb.GemmSpec(INT8, lb.Quantizer(lb.INT16), table)
    assert lb.GemmSpec(INT8, STOCHASTIC, table).mac is table


def test_formats_are_equal_by_their_values() -> None:
    assert lb.parse_format("float<5,10>") == lb.FP16
    assert hash(lb.parse_format("float<5,10>")) == hash(lb.FP16)
    assert lb.parse_format("float<5,11>") != lb.FP16


def test_qtorchs_numbers_are_accumulators_too() -> None:
    qtorch = pytest.importorskip("qtorch")
    saturating = lb.Rounding(overflow="saturate")  # these formats have no infinity
    number, product = qtorch.FloatingPoint(6, 9), qtorch.FloatingPoint(5, 10)
    mac = lb.FloatMacUnit(accumulator=number, product=product, rounding=saturating)
    assert (mac.accumulator.exponent_bits, mac.accumulator.mantissa_bits) == (6, 9)
    assert mac.product is not None
    assert mac.product.mantissa_bits == 10
