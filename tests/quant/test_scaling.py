"""Scale rules against arithmetic on exact fractions."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import CodebookFormat, FloatFormat, Format, IntFormat
from lowbit_sim.numerics.reference import float32
from lowbit_sim.quant.granularity import PerAxis, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import (
    AbsMaxScale,
    DirectionSensitiveScale,
    EmaScale,
    FixedScale,
    LearnedScale,
    MinMaxScale,
    MseScale,
    PercentileScale,
    PowerOfTwoScale,
    SawbScale,
    reduces,
    scale_and_zero_point,
)

MAX = float(np.finfo(np.float32).max)
FORMATS = [
    catalog.INT2,
    catalog.INT4,
    catalog.INT8,
    catalog.UINT8,
    catalog.INT16,
    catalog.FP8_E4M3FN,
    catalog.FP4_E2M1,
]
ABSMAXES = [
    2.0**-149,
    2.0**-130,
    2.0**-126,
    1e-38,
    1e-30,
    0.1,
    1.0,
    7.0,
    127.0,
    math.pi,
    448.0,
    1e10,
    2.0**127,
    MAX,
]


def absmax_scale(absmax: float, fmt: Format) -> float:
    """fp32(absmax / max_value) by fractions; binary64 in between does not change a quotient of float32s."""
    if absmax == 0:
        return 1.0
    quotient = float32(float(Fraction(absmax) / Fraction(fmt.max_value)))
    return min(max(quotient, 2.0**-126), MAX)


def scale_of(x: torch.Tensor, fmt: Format, rule) -> float:
    return float(scale_and_zero_point(x, fmt, PerTensor(), rule)[0])


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_absmax_scale_is_the_rounded_quotient(fmt: Format) -> None:
    for absmax in map(float32, ABSMAXES):
        for sign in (1.0, -1.0):
            x = torch.tensor([0.0, sign * absmax, -sign * absmax / 4], dtype=torch.float32)
            assert scale_of(x, fmt, AbsMaxScale()) == absmax_scale(absmax, fmt)


def test_absmax_scale_on_many_numbers() -> None:
    x = torch.from_numpy(np.random.default_rng(0).lognormal(0, 20, 2000).astype(np.float32))
    scale, _ = scale_and_zero_point(x.reshape(-1, 1), catalog.INT8, PerAxis(0), AbsMaxScale())
    assert scale.flatten().tolist() == [absmax_scale(v, catalog.INT8) for v in x.tolist()]


@pytest.mark.parametrize("rule", [AbsMaxScale(), PowerOfTwoScale(), MinMaxScale()])
@pytest.mark.parametrize("fill", [0.0, -0.0, math.inf, -math.inf])
def test_nothing_but_zeros_and_infinities_has_scale_one(rule, fill: float) -> None:
    assert scale_of(torch.full((3, 4), fill), catalog.INT8, rule) == 1.0


@pytest.mark.parametrize("rule", [AbsMaxScale(), PowerOfTwoScale(), MinMaxScale()])
@pytest.mark.parametrize("tiny", [2.0**-148, 2.0**-127, 2.0**-126])
def test_scale_is_never_below_two_to_the_minus_126(rule, tiny: float) -> None:
    assert scale_of(torch.tensor([tiny, -tiny / 2]), catalog.INT8, rule) == 2.0**-126


@pytest.mark.parametrize("rule", [AbsMaxScale(), PowerOfTwoScale()])
def test_scale_is_finite_for_a_format_of_tiny_values(rule) -> None:
    fmt = FloatFormat(exponent_bits=2, mantissa_bits=1, bias=100)
    scale = scale_of(torch.tensor([1e38]), fmt, rule)
    assert math.isfinite(scale)
    assert torch.isfinite(Quantizer(fmt, scale=rule)(torch.tensor([1e38, -1.0])).dequantize()).all()


@pytest.mark.parametrize("rule", [AbsMaxScale(), PowerOfTwoScale(), MinMaxScale()])
def test_infinities_are_left_out_and_saturate(rule) -> None:
    x = torch.tensor([3.0, -math.inf, 1.0, math.inf, -2.0])
    finite = torch.tensor([3.0, 1.0, -2.0])
    assert scale_of(x, catalog.INT8, rule) == scale_of(finite, catalog.INT8, rule)
    codes = Quantizer(catalog.INT8, scale=rule)(x).codes
    assert codes[[3, 1]].tolist() == [127, -127]
    assert codes[[0, 2, 4]].tolist() == Quantizer(catalog.INT8, scale=rule)(finite).codes.tolist()


def test_an_infinity_in_one_channel_leaves_the_others_alone() -> None:
    x = torch.tensor([[1.0, -math.inf], [4.0, 2.0], [math.inf, math.inf]])
    scale, _ = scale_and_zero_point(x, catalog.INT4, PerAxis(0), AbsMaxScale())
    assert scale.flatten().tolist() == [float32(1 / 7), float32(4 / 7), 1.0]


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5), (5, 1, 1)])
def test_axis_that_holds_every_element_is_not_reduced(shape: tuple[int, ...]) -> None:
    x = torch.tensor([1.0, -2.0, 0.0, 4.0, -8.0]).reshape(shape)
    axis = shape.index(5)
    scale, _ = scale_and_zero_point(x, catalog.INT8, PerAxis(axis), AbsMaxScale())
    assert scale.shape == shape
    assert scale.flatten().tolist() == [absmax_scale(v, catalog.INT8) for v in (1.0, 2.0, 0.0, 4.0, 8.0)]
    span, zero_point = scale_and_zero_point(x, catalog.UINT8, PerAxis(axis), MinMaxScale())
    assert span.flatten().tolist() == [absmax_scale(v, catalog.UINT8) for v in (1.0, 2.0, 0.0, 4.0, 8.0)]
    assert zero_point is not None
    assert zero_point.flatten().tolist() == [0, 255, 0, 0, 255]


@pytest.mark.parametrize("fmt", [catalog.INT4, catalog.INT8, catalog.FP4_E2M1], ids=str)
@pytest.mark.parametrize("exponent", [-100, -3, 0, 5, 90])
def test_power_of_two_at_its_steps(fmt: Format, exponent: int) -> None:
    # absmax = 2^e max_value needs exactly 2^e; one unit in the last place more needs twice that.
    exact = np.float32(2.0**exponent * fmt.max_value)
    absmaxes = [np.nextafter(exact, np.float32(0)), exact, np.nextafter(exact, np.float32(MAX))]
    scales = [scale_of(torch.tensor([a]), fmt, PowerOfTwoScale()) for a in absmaxes]
    bounds = [absmax_scale(float(a), fmt) for a in absmaxes]
    # One unit beside absmax may round to the same quotient.
    assert scales == [2.0**exponent if bound <= 2.0**exponent else 2.0 ** (exponent + 1) for bound in bounds]
    assert scales[1] == 2.0**exponent


def test_one_unit_above_a_step_doubles_the_power_of_two() -> None:
    fmt = catalog.INT2  # max_value 1, so the quotient is absmax itself
    above = np.nextafter(np.float32(4), np.float32(5))
    assert [scale_of(torch.tensor([a]), fmt, PowerOfTwoScale()) for a in (4.0, above)] == [4.0, 8.0]


def test_power_of_two_is_the_smallest_that_reaches_the_absmax_scale() -> None:
    powers = torch.from_numpy(np.ldexp(np.float32(1), np.arange(-126, 128)))
    x = torch.cat([powers, powers[:-1] * 1.5, torch.nextafter(powers[1:], torch.zeros(()))]).reshape(-1, 1)
    scale, _ = scale_and_zero_point(x, catalog.INT2, PerAxis(0), PowerOfTwoScale())
    for absmax, power in zip(x.flatten().tolist(), scale.flatten().tolist(), strict=True):
        assert math.frexp(power)[0] == 0.5
        assert power / 2 < absmax <= power


def test_power_of_two_stops_at_the_largest_that_float32_has() -> None:
    x = torch.tensor([MAX, -MAX])
    assert scale_of(x, catalog.INT2, PowerOfTwoScale()) == 2.0**127
    assert Quantizer(catalog.INT2, scale=PowerOfTwoScale())(x).codes.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        # uint8: 255 steps from min(x, 0) to max(x, 0)
        (0.0, 255.0, 1.0, 0),
        (-255.0, 0.0, 1.0, 255),
        (-128.0, 127.0, 1.0, 128),
        (10.0, 510.0, 2.0, 0),
        (-510.0, -10.0, 2.0, 255),
        (-51.0, 204.0, 1.0, 51),
        (-0.5, 1.0, float32(1.5 / 255), 85),
    ],
)
def test_min_max_by_hand(low: float, high: float, scale: float, zero_point: int) -> None:
    found, zero = scale_and_zero_point(torch.tensor([low, high]), catalog.UINT8, PerTensor(), MinMaxScale())
    assert found.tolist() == [scale]
    assert zero is not None
    assert zero.tolist() == [zero_point]
    assert zero.dtype == torch.int32


@pytest.mark.parametrize(
    "fmt", [catalog.UINT4, catalog.UINT8, catalog.INT8, IntFormat(bits=8, symmetric=False)], ids=str
)
@pytest.mark.parametrize("seed", range(10))
def test_min_max_covers_the_range_and_keeps_zero(fmt: IntFormat, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(
        (rng.standard_normal(50) * 10.0 ** rng.integers(-20, 20) + rng.normal()).astype(np.float32)
    )
    x[0] = 0.0
    q = Quantizer(fmt, scale=MinMaxScale())(x)
    assert q.zero_point is not None
    assert fmt.qmin <= int(q.zero_point) <= fmt.qmax
    assert q.codes[0] == q.zero_point
    assert q.dequantize()[0] == 0.0
    # Half a step for the rounding of the zero point, half a step for the code's; float32 adds far less.
    error = (q.dequantize().double() - x.double()).abs().max()
    assert error <= q.scale.double() * 1.001


@pytest.mark.parametrize(("low", "high"), [(-MAX, MAX), (0.0, MAX), (-MAX, 0.0), (-MAX, 1.0)])
def test_min_max_of_huge_ranges_does_not_overflow(low: float, high: float) -> None:
    q = Quantizer(catalog.UINT8, scale=MinMaxScale())(torch.tensor([low, high, 0.0]))
    assert torch.isfinite(q.scale).all()
    assert q.scale.item() == float32(float((Fraction(high) - Fraction(low)) / 255))
    assert q.zero_point is not None
    assert q.codes[2] == q.zero_point[0]
    assert int(q.codes[1]) - int(q.codes[0]) >= 254


def test_fixed_scale() -> None:
    scale, zero_point = scale_and_zero_point(torch.ones(3, 4), catalog.INT8, PerAxis(1), FixedScale(0.25))
    assert scale.tolist() == [[0.25] * 4]
    assert scale.dtype == torch.float32
    assert zero_point is None


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0**-127, math.inf, -math.inf, math.nan, 1e39])
def test_fixed_scale_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"at least 2^-126, got {value}")):
        FixedScale(value)


def test_fixed_scale_must_be_a_float32_value() -> None:
    with pytest.raises(ValueError, match=r"float32 value, got 0\.1"):
        FixedScale(0.1)
    assert FixedScale(float32(0.1)).value == float32(0.1)
    assert FixedScale(2.0**-126).value == 2.0**-126


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (AbsMaxScale(), True),
        (PowerOfTwoScale(), True),
        (MinMaxScale(), True),
        (FixedScale(1.0), False),
        (EmaScale(), False),
        (LearnedScale(), False),
        (PercentileScale(), True),
        (MseScale(), True),
        (SawbScale(), True),
        (DirectionSensitiveScale(), True),
    ],
)
def test_which_rules_read_the_whole_tensor(rule, expected: bool) -> None:
    assert reduces(rule) is expected


@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.LOG4_RADIX4, catalog.FP4_E2M1], ids=str)
def test_the_largest_magnitude_maps_to_the_given_top(fmt: Format) -> None:
    x = torch.tensor([3.0, -11.0, 0.5])
    assert scale_of(x, fmt, AbsMaxScale(top=4.0)) == float32(11 / 4)
    assert scale_of(x, fmt, AbsMaxScale(top=fmt.max_value)) == scale_of(x, fmt, AbsMaxScale())


@pytest.mark.parametrize("top", [0.0, -1.0, math.inf, math.nan, 1e39])
def test_top_out_of_range(top: float) -> None:
    with pytest.raises(ValueError, match="top is a positive finite number"):
        AbsMaxScale(top=top)


@pytest.mark.parametrize(
    "fmt",
    [catalog.UINT4, catalog.INT8, catalog.INT2, IntFormat(bits=16, signed=False, symmetric=False)],
    ids=str,
)
@pytest.mark.parametrize("seed", range(20))
def test_unclipped_min_max_leaves_every_element_within_the_codes(fmt: IntFormat, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(50) * 10.0 ** rng.integers(-20, 20)
    x = torch.from_numpy((x + rng.normal() * np.abs(x).max()).astype(np.float32))
    scale, zero_point = scale_and_zero_point(x, fmt, PerTensor(), MinMaxScale(unclipped=True))
    assert zero_point is not None
    # y of the definition, its grid moved by the zero point: no end is beyond the codes, so rounding to either
    # neighbour is not clipped.
    y = [Fraction(v) + int(zero_point) for v in (x * (1.0 / scale)).tolist()]
    assert fmt.qmin <= min(y)
    assert max(y) <= fmt.qmax
    # And no more than the spare step (and a little) is left over.
    span = max(max(x.tolist()), 0.0) - min(min(x.tolist()), 0.0)
    assert span / scale.item() >= (fmt.qmax - fmt.qmin - 1) * (1 - 2.0**-19)
    q = Quantizer(fmt, scale=MinMaxScale(unclipped=True))(x)
    assert q.zero_point is not None
    assert torch.equal(q.zero_point, zero_point)


def test_clipped_min_max_would_lose_an_end() -> None:
    # What `unclipped` is for: -0.4 and 14.6 are 15 steps apart, and the rounded zero point leaves -0.4 below code 0.
    x = torch.tensor([-0.4, 14.6])
    scale, zero_point = scale_and_zero_point(x, catalog.UINT4, PerTensor(), MinMaxScale())
    assert zero_point is not None
    assert (scale.item(), zero_point.item()) == (1.0, 0)
    scale, zero_point = scale_and_zero_point(x, catalog.UINT4, PerTensor(), MinMaxScale(unclipped=True))
    assert zero_point is not None
    assert zero_point.item() == 1
    assert scale.item() == pytest.approx(15 / 14, rel=1e-6)


def test_all_zeros_in_a_format_without_zero_stay_next_to_nothing() -> None:
    fmt = CodebookFormat(values=(-3.0, -1.0, 1.0, 3.0), name="odd")
    for rule in (AbsMaxScale(), PowerOfTwoScale(), PercentileScale(), MseScale()):
        q = Quantizer(fmt, scale=rule)(torch.zeros(4))
        assert q.scale.item() == 2.0**-126
        assert q.dequantize().abs().max() <= 2.0**-126


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
def test_unclipped_min_max_of_ranges_on_the_grid(bits: int) -> None:
    # The hard ranges: -low is a whole number of steps, so float32's roundings decide whether ceil adds another.
    fmt = IntFormat(bits=bits, signed=False, symmetric=False)
    rng, steps = np.random.default_rng(bits), fmt.qmax - 1
    below, high = rng.integers(0, steps, 2000), rng.uniform(0.1, 10, 2000)
    x = torch.from_numpy(np.stack([-high * below / (steps - below), high], 1).astype(np.float32))
    scale, zero_point = scale_and_zero_point(x, fmt, PerAxis(0), MinMaxScale(unclipped=True))
    assert zero_point is not None
    y = (x * (1.0 / scale)).double() + zero_point
    assert (y >= fmt.qmin).all()
    assert (y <= fmt.qmax).all()
