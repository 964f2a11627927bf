"""A quantiser's codes and scales for any format, granularity and tensor, computed again here in numpy."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.quant.granularity import PerAxis, PerTensor
from lowbit_sim.quant.qtensor import decode
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, MinMaxScale, PowerOfTwoScale
from tests.numerics.cases import reference_codes
from tests.properties.strategies import (
    arrays,
    float32_values,
    float_formats,
    integer_formats,
    roundings,
    streams,
    values_for,
)

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
FORMATS = st.one_of(integer_formats(), float_formats())


@st.composite
def cases(draw, elements):
    """A float32 array and a granularity that it has: per tensor, or any axis counted from either end."""
    x = draw(arrays(elements, SHAPES))
    axis = draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    return x, (PerTensor() if axis is None else PerAxis(axis))


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
