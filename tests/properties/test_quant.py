"""A quantiser's codes and scales for any format, granularity and tensor, computed again here in numpy.

Codes are compared with the scalar definition element by element.
"""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from lowbit_sim.numerics.catalog import BF16, FP8_E4M3FN, FP8_E5M2, INT4, INT8
from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
)
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference_blocks import shared_exponent
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.quant.block_scaling import granularity_of
from lowbit_sim.quant.granularity import PerAxis, PerBlock, PerGroup, PerSample, PerTensor, scale_shape
from lowbit_sim.quant.qtensor import decode
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.reference import float_block_scale
from lowbit_sim.quant.scaling import (
    AbsMaxScale,
    DirectionSensitiveScale,
    EmaScale,
    FixedScale,
    MinMaxScale,
    MseScale,
    PercentileScale,
    PowerOfTwoScale,
    ScaleState,
)
from tests.numerics.cases import ELEMENTS, FLOATS, reference_codes
from tests.properties.strategies import (
    arrays,
    float32_values,
    float_formats,
    integer_formats,
    roundings,
    streams,
    values_for,
)
from tests.quant.cases import codes_one_by_one, regions_of, scale_index

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
FORMATS = st.one_of(integer_formats(), float_formats())


@st.composite
def cases(draw, elements):
    """A float32 array and a granularity that it has: per tensor, or any axis counted from either end."""
    x = draw(arrays(elements, SHAPES))
    axis = draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    return x, (PerTensor() if axis is None else PerAxis(axis))


@st.composite
def all_cases(draw, elements):
    """A float32 array and any granularity that it has, short last groups and blocks among them."""
    x = draw(arrays(elements, SHAPES))
    axes, sizes = st.integers(-x.ndim, x.ndim - 1), st.integers(1, 7)
    kinds = [
        st.just(PerTensor()),
        st.builds(PerAxis, axes),
        st.just(PerSample()),
        st.builds(PerGroup, sizes, axes),
        st.builds(PerBlock, sizes),
    ]
    return x, draw(st.one_of(kinds))


#: Every rule that needs no state and serves every format.
RULES = [
    AbsMaxScale(),
    AbsMaxScale(top=3.0),
    PowerOfTwoScale(),
    FixedScale(0.75),
    PercentileScale(60),
    MseScale(),
    DirectionSensitiveScale(),
]


def shared_axes(x: np.ndarray, granularity) -> tuple[int, ...]:
    """The axes along which elements share a scale."""
    if isinstance(granularity, PerTensor):
        return tuple(range(x.ndim))
    return tuple(i for i in range(x.ndim) if i != granularity.axis % x.ndim)


def absmax_scale(x: np.ndarray, fmt: Format, granularity) -> np.ndarray:
    """The scale by numpy's float32 arithmetic."""
    finite = np.where(np.isinf(x), np.float32(0), np.abs(x))
    absmax = finite.max(shared_axes(x, granularity), keepdims=True, initial=np.float32(0))
    with np.errstate(over="ignore", under="ignore"):
        scale = absmax / np.float32(fmt.max_value)
    scale = np.clip(scale, np.float32(2.0**-126), np.finfo(np.float32).max)
    return np.where(absmax == 0, np.float32(1), scale).astype(np.float32)


def scaled(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """fp32(x * fp32(1 / scale))."""
    with np.errstate(over="ignore", under="ignore"):
        return x * (np.float32(1) / scale)


@given(data=st.data(), fmt=FORMATS, stream=streams())
def test_absmax_quantiser_is_the_definition(data, fmt: Format, stream: Stream) -> None:
    x, granularity = data.draw(cases(values_for(fmt)))
    how = data.draw(roundings(fmt))
    q = Quantizer(fmt, granularity=granularity, rounding=how)(torch.from_numpy(x), stream=stream)
    scale = absmax_scale(x, fmt, granularity)
    np.testing.assert_array_equal(q.scale.numpy(), scale)
    np.testing.assert_array_equal(q.codes.numpy(), reference_codes(scaled(x, scale), fmt, how, stream))


@given(data=st.data(), fmt=FORMATS)
def test_power_of_two_scale(data, fmt: Format) -> None:
    x, granularity = data.draw(cases(values_for(fmt)))
    q = Quantizer(fmt, granularity=granularity, scale=PowerOfTwoScale())(torch.from_numpy(x))
    scale, bound = q.scale.double().numpy(), absmax_scale(x, fmt, granularity).astype(np.float64)
    assert (np.frexp(scale)[0] == 0.5).all()
    assert (scale / 2 < bound).all()
    assert ((scale >= bound) | (scale == 2.0**127)).all()
    how = Quantizer(fmt).rounding
    np.testing.assert_array_equal(q.codes.numpy(), reference_codes(scaled(x, q.scale.numpy()), fmt, how))


@given(data=st.data(), fmt=integer_formats())
def test_min_max_scale(data, fmt: IntFormat) -> None:
    x, granularity = data.draw(cases(float32_values()))
    q = Quantizer(fmt, granularity=granularity, scale=MinMaxScale())(torch.from_numpy(x))
    assert q.zero_point is not None
    zero_point = q.zero_point.numpy()
    assert ((fmt.qmin <= zero_point) & (zero_point <= fmt.qmax)).all()
    y = scaled(x, q.scale.numpy())
    shift = np.broadcast_to(zero_point, x.shape).reshape(-1)
    how = Quantizer(fmt).rounding
    expected = [
        int(reference_codes(y.reshape(-1)[i : i + 1], fmt, how, None, int(shift[i]))[0])
        for i in range(x.size)
    ]
    assert q.codes.reshape(-1).tolist() == expected
    # Zero is exact; nothing finite is further from its value than the two roundings of half a step each.
    assert (q.dequantize().numpy()[x == 0] == 0).all()
    finite = np.isfinite(x)
    scale = np.broadcast_to(q.scale.double().numpy(), x.shape)[finite]
    # Not dequantize(): next to the largest float32 its product can round to infinity.
    values = q.integers().double().numpy()[finite] * scale
    assert (np.abs(values - x[finite]) <= 1.001 * scale).all()


@given(data=st.data(), fmt=FORMATS)
def test_dequantised_values_are_code_times_scale(data, fmt: Format) -> None:
    x, granularity = data.draw(cases(values_for(fmt)))
    q = Quantizer(fmt, granularity=granularity, scale=AbsMaxScale())(torch.from_numpy(x))
    values = (
        q.codes.numpy().astype(np.float32) if isinstance(fmt, IntFormat) else decode(q.codes, fmt).numpy()
    )
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(q.dequantize().numpy(), values * q.scale.numpy())


@given(data=st.data(), fmt=integer_formats(), stream=streams(), at=st.integers(0, 5))
def test_shards_with_offsets_quantise_as_the_whole(data, fmt: IntFormat, stream: Stream, at: int) -> None:
    # Scales per sample do not cross the cut, so a rank needs nothing but the offset of its first element.
    x = torch.from_numpy(data.draw(arrays(float32_values(), st.tuples(st.integers(0, 5), st.integers(0, 9)))))
    stream = dataclasses.replace(stream, offset=stream.offset % (1 << 61))
    quantizer = Quantizer(fmt, granularity=PerAxis(0), rounding=data.draw(roundings(fmt)))
    whole = quantizer(x, stream=stream)
    moved = dataclasses.replace(stream, offset=stream.offset + x[:at].numel())
    parts = [quantizer(x[:at], stream=stream), quantizer(x[at:], stream=moved)]
    assert torch.equal(torch.cat([part.codes for part in parts]), whole.codes)
    assert torch.equal(torch.cat([part.scale for part in parts]), whole.scale)


@st.composite
def block_formats(draw):
    """Any element under any scale that it can have, in blocks, for the whole tensor or along the first axis."""
    fixed = st.builds(
        lambda b, f: FixedFormat(word_length=b, fraction_length=f), st.integers(2, 8), st.integers(-2, 8)
    )
    floats = st.sampled_from([f for f in FLOATS if f.bits <= 8])
    element = draw(st.one_of(fixed, floats, st.sampled_from([INT4, INT8])))
    shared = draw(
        st.sampled_from([{"block": 2}, {"block": 3}, {"block": 16}, {"block": 0}, {"block": 0, "dim": 0}])
    )
    if draw(st.booleans()):
        rule = draw(st.sampled_from(["floor", "even", "ceil"]))
        return BlockFormat(element=element, rule=rule, **shared)
    scale = draw(st.sampled_from([FP8_E4M3FN, FP8_E5M2, BF16]))
    return BlockFormat(element=element, scale=scale, tensor_scale=draw(st.booleans()), **shared)


def element_roundings(fmt):
    """Any rounding of a format, stochastic with as many bits as it has room for."""
    if isinstance(fmt, IntFormat | FloatFormat):
        return roundings(fmt)
    most = fmt.max_random_bits if isinstance(fmt, CodebookFormat) else 32
    return st.one_of(
        st.sampled_from([Rounding(mode) for mode in RoundingMode if mode != "stochastic"]),
        st.builds(lambda r: Rounding("stochastic", random_bits=r), st.integers(1, most)),
    )


def assert_scales_are_positive(q, granularity) -> None:
    assert q.scale.shape == scale_shape(granularity, tuple(q.shape))
    assert torch.isfinite(q.scale).all()
    assert (q.scale >= 2.0**-126).all()


@given(data=st.data(), fmt=st.sampled_from(ELEMENTS), stream=streams())
def test_any_format_granularity_and_rule_is_the_definition(data, fmt, stream: Stream) -> None:
    x, granularity = data.draw(all_cases(float32_values()))
    rule, how = data.draw(st.sampled_from(RULES)), data.draw(element_roundings(fmt))
    tensor = torch.from_numpy(x)
    q = Quantizer(fmt, granularity=granularity, scale=rule, rounding=how)(tensor, stream=stream)
    assert_scales_are_positive(q, granularity)
    low, high = code_range(fmt)
    codes = q.codes.reshape(-1).tolist()
    assert all(low <= code <= high for code in codes)
    assert codes == codes_one_by_one(tensor, q.scale, granularity, fmt, how, stream)


def test_a_block_scale_beyond_float32_is_the_largest() -> None:
    fmt = BlockFormat(
        element=FixedFormat(word_length=2, fraction_length=1), scale=FP8_E4M3FN, block=2, tensor_scale=True
    )
    q = Quantizer(fmt)(torch.tensor([2.0**127, float("inf")]))
    assert q.scale.tolist() == [torch.finfo(torch.float32).max]
    assert float_block_scale(2.0**127, 2.0**127, fmt) == q.scale.item()


@given(data=st.data(), fmt=block_formats(), stream=streams())
def test_block_formats_are_the_definition(data, fmt: BlockFormat, stream: Stream) -> None:
    values = values_for(fmt.element) if isinstance(fmt.element, FloatFormat) else float32_values()
    x = torch.from_numpy(data.draw(arrays(values, SHAPES)))
    how = data.draw(element_roundings(fmt.element).filter(lambda r: r.overflow == "saturate"))
    q = Quantizer(fmt, rounding=how)(x, stream=stream)
    granularity, shape = granularity_of(fmt), tuple(x.shape)
    finite = torch.where(torch.isinf(x), 0.0, x).abs()
    overall = finite.amax().item() if x.numel() else 0.0
    cleared = x.clone()
    for members in regions_of(granularity, shape).values():
        absmax = max(finite[i].item() for i in members)
        if isinstance(fmt.scale, FloatFormat):
            scale = float_block_scale(absmax, overall, fmt)
        else:
            scale = 2.0 ** shared_exponent(absmax, fmt.element, fmt.rule)
        assert q.scale[scale_index(granularity, members[0], shape)].item() == (scale or 1.0)
        for i in members:
            if scale == 0 and np.isfinite(x[i].item()):
                cleared[i] = 0.0
    expected = codes_one_by_one(cleared, q.scale, granularity, fmt.element, how, stream)
    assert q.codes.reshape(-1).tolist() == expected


@given(data=st.data(), fmt=st.sampled_from(ELEMENTS))
def test_quantising_the_values_again_with_the_scale_changes_nothing(data, fmt) -> None:
    # A power of two scales exactly, so that the values of the format come back as themselves.
    x = torch.from_numpy(data.draw(arrays(float32_values(), SHAPES)))
    scale = FixedScale(2.0 ** data.draw(st.integers(-10, 10)))
    how = data.draw(element_roundings(fmt).filter(lambda r: r.overflow == "saturate"))
    quantizer = Quantizer(fmt, scale=scale, rounding=how)
    values = quantizer(x, stream=Stream(seed=1)).dequantize()
    # Products beyond float32's range or below its normal numbers are rounded.
    exact = torch.isfinite(values) & ((values == 0) | (values.abs() >= 2.0**-126))
    again = quantizer(values.where(exact, torch.zeros(())), stream=Stream(seed=2)).dequantize()
    assert torch.equal(again.where(exact, torch.zeros(())), values.where(exact, torch.zeros(())))


@given(data=st.data(), fmt=integer_formats(), momentum=st.floats(0, 0.99))
def test_a_maximum_in_hindsight(data, fmt: IntFormat, momentum: float) -> None:
    x, granularity = data.draw(all_cases(float32_values()))
    first = torch.from_numpy(x)
    second = torch.from_numpy(data.draw(arrays(float32_values(), x.shape)))
    quantizer = Quantizer(fmt, granularity=granularity, scale=EmaScale(momentum))
    plain = Quantizer(fmt, granularity=granularity)
    state = ScaleState()
    assert torch.equal(quantizer(first, state=state).codes, plain(first).codes)
    q = quantizer(second, state=state)
    assert_scales_are_positive(q, granularity)
    expected = codes_one_by_one(second, q.scale, granularity, fmt, plain.rounding)
    assert q.codes.reshape(-1).tolist() == expected


@given(data=st.data(), fmt=integer_formats())
def test_unclipped_min_max_clips_nothing(data, fmt: IntFormat) -> None:
    x, granularity = data.draw(all_cases(float32_values()))
    tensor = torch.from_numpy(x)
    q = Quantizer(fmt, granularity=granularity, scale=MinMaxScale(unclipped=True))(tensor)
    assert q.zero_point is not None
    assert_scales_are_positive(q, granularity)
    scale, shift = q.expanded_scale(), q.expanded_zero_point()
    y = (tensor * (1.0 / scale)).double() + shift
    inside = torch.isfinite(tensor)
    assert (y[inside] >= fmt.qmin).all()
    # Where the range of the codes at the largest scale is less than that of float32, the ends do saturate.
    fits = inside & (scale < torch.finfo(torch.float32).max).expand_as(inside)
    assert (y[fits] <= fmt.qmax).all()
    assert (q.dequantize()[tensor == 0] == 0).all()
