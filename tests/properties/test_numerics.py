"""For any format, rounding, stream and input the kernels return the definition's bits."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.kernels import philox_blocks
from lowbit_sim.numerics.random import Stream, draw, philox4x32
from lowbit_sim.numerics.reference import float_code, float_value, integer_code
from lowbit_sim.numerics.rounding import Rounding
from tests.numerics.cases import kernel_codes, reference_codes, stream_draws
from tests.properties.strategies import (
    WORDS,
    arrays,
    float_formats,
    integer_formats,
    roundings,
    streams,
    values_for,
)

FORMATS = st.one_of(integer_formats(), float_formats())


@given(data=st.data(), fmt=FORMATS, stream=streams())
def test_kernel_is_the_definition(data, fmt: Format, stream: Stream) -> None:
    how = data.draw(roundings(fmt))
    y = data.draw(arrays(values_for(fmt), st.integers(0, 24)))
    zero_point = data.draw(st.integers(fmt.qmin, fmt.qmax)) if isinstance(fmt, IntFormat) else 0
    expected = reference_codes(y, fmt, how, stream, zero_point)
    np.testing.assert_array_equal(kernel_codes(y, fmt, how, stream, zero_point), expected)


@given(data=st.data(), fmt=FORMATS)
def test_codes_stay_in_the_format(data, fmt: Format) -> None:
    how = data.draw(roundings(fmt))
    codes = kernel_codes(data.draw(arrays(values_for(fmt), (16,))), fmt, how, Stream(seed=1))
    if isinstance(fmt, IntFormat):
        assert ((fmt.qmin <= codes) & (codes <= fmt.qmax)).all()
        return
    beyond = {"saturate": fmt.max_code, "infinity": fmt.infinity_code or fmt.nan_code}[how.overflow]
    codes &= (1 << (fmt.bits - 1)) - 1
    assert ((codes <= fmt.max_code) | (codes == beyond)).all()


@given(fmt=float_formats(), data=st.data())
def test_a_float_value_rounds_to_itself(fmt: FloatFormat, data) -> None:
    how = data.draw(roundings(fmt))
    first = 0 if fmt.has_subnormals else 1 << fmt.mantissa_bits
    codes = np.array(data.draw(st.lists(st.integers(first, fmt.max_code), min_size=1, max_size=20)))
    codes = np.concatenate([codes, codes | 1 << (fmt.bits - 1), [0]])
    values = np.array([float_value(int(code), fmt) for code in codes], dtype=np.float32)
    np.testing.assert_array_equal(kernel_codes(values, fmt, how, Stream(seed=2)), codes)


@given(data=st.data(), fmt=FORMATS, random=st.integers(0, 255))
def test_rounding_is_monotone(data, fmt: Format, random: int) -> None:
    how = data.draw(roundings(fmt).filter(lambda r: r.overflow == "saturate"))
    if how.is_stochastic:
        how = dataclasses.replace(how, random_bits=8)
    y = sorted(data.draw(st.lists(values_for(fmt).map(float), min_size=2, max_size=12)))
    if isinstance(fmt, IntFormat):
        values = [integer_code(x, fmt, how, random) for x in y]
    else:
        values = [float_value(float_code(x, fmt, how, random), fmt) for x in y]
    assert values == sorted(values)


@given(data=st.data(), fmt=float_formats())
def test_negation_mirrors_every_mode_but_down_and_up(data, fmt: FloatFormat) -> None:
    # Stochastic rounding too: a float's random bits are added to the magnitude.
    how = data.draw(roundings(fmt).filter(lambda r: r.mode not in ("down", "up")))
    y = np.abs(data.draw(arrays(values_for(fmt), (12,))))
    stream = Stream(seed=4)
    positive, negative = (kernel_codes(x, fmt, how, stream) for x in (y, -y))
    np.testing.assert_array_equal(positive | 1 << (fmt.bits - 1), negative)


@given(data=st.data(), fmt=float_formats(), overflow=st.sampled_from(["saturate", "infinity"]))
def test_down_and_up_enclose_the_value(data, fmt: FloatFormat, overflow) -> None:
    if not (fmt.has_infinity or fmt.has_nan):
        overflow = "saturate"
    y = data.draw(arrays(values_for(fmt), (12,)))
    y = y[np.abs(y) <= fmt.max_value]
    low, high = (
        np.array([float_value(int(code), fmt) for code in kernel_codes(y, fmt, Rounding(mode, overflow))])
        for mode in ("down", "up")
    )
    assert (low <= y).all()
    assert (y <= high).all()
    assert (low[y == low] == high[y == low]).all()


@given(seed=WORDS, operand=WORDS, step=WORDS, site=WORDS, block=st.integers(0, (1 << 62) - 2))
def test_philox_kernel_is_the_definition(seed: int, operand: int, step: int, site: int, block: int) -> None:
    stream = Stream(seed=seed, operand=operand, step=step, site=site)
    counter = (block & 0xFFFFFFFF, block >> 32, step, site)
    assert tuple(philox_blocks(stream, block, 1)[0].tolist()) == philox4x32(counter, (seed, operand))


@given(stream=streams(), start=st.integers(0, 100), random_bits=st.integers(1, 32))
def test_a_draw_depends_on_the_global_index_only(stream: Stream, start: int, random_bits: int) -> None:
    stream = dataclasses.replace(stream, offset=stream.offset % (1 << 61))
    moved = dataclasses.replace(stream, offset=stream.offset + start)
    assert draw(moved, 3, random_bits) == draw(stream, start + 3, random_bits)


@given(stream=streams(), width=st.sampled_from([8, 16, 32]), count=st.integers(0, 70))
def test_sub_word_draws(stream: Stream, width: int, count: int) -> None:
    stream = dataclasses.replace(stream, offset=0)
    assert stream_draws(stream, count, width).tolist() == [draw(stream, i, width) for i in range(count)]
