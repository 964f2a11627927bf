"""Hypothesis strategies for formats, roundings and float32 arrays."""

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra import numpy as hnp

from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import float_value
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.numerics.cases import EDGES, overflows

WORDS = st.integers(0, 0xFFFFFFFF)


def integer_formats() -> st.SearchStrategy[IntFormat]:
    """Symmetric, full-range and unsigned integers of 2 to 16 bits."""
    kinds = st.sampled_from([(True, True), (True, False), (False, False)])
    return st.builds(
        lambda bits, kind: IntFormat(bits=bits, signed=kind[0], symmetric=kind[1]), st.integers(2, 16), kinds
    )


@st.composite
def float_formats(draw: Callable) -> FloatFormat:
    """Any float format of 1 to 8 exponent bits and 0 to 10 mantissa bits whose values float32 holds."""
    exponent_bits, mantissa_bits = draw(st.integers(1, 8)), draw(st.integers(0, 10))
    infinity, nan, subnormals = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    if mantissa_bits == 0 and infinity and nan:
        infinity = False
    if exponent_bits == 1 and (infinity or nan):
        # One exponent field is left, which holds the subnormals.
        subnormals, mantissa_bits = True, max(mantissa_bits, 1)
    reserved = 1 if (infinity and nan) or (mantissa_bits == 0 and (infinity or nan)) else 0
    lowest_bias = (1 << exponent_bits) - 1 - reserved - 127
    highest_bias = 150 - mantissa_bits
    return FloatFormat(
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        bias=draw(st.integers(lowest_bias, highest_bias)),
        has_infinity=infinity,
        has_nan=nan,
        has_subnormals=subnormals,
    )


@st.composite
def roundings(draw: Callable, fmt: Format) -> Rounding:
    """Any rounding that a quantiser of the format accepts."""
    mode = draw(st.sampled_from(list(RoundingMode)))
    random_bits = draw(st.integers(1, 32)) if mode is RoundingMode.STOCHASTIC else 0
    return Rounding(mode, draw(st.sampled_from(overflows(fmt))), random_bits)


def streams() -> st.SearchStrategy[Stream]:
    """Any address of random bits."""
    offsets = st.one_of(st.integers(0, 40), st.integers(0, (1 << 62) - 1))
    return st.builds(Stream, seed=WORDS, step=WORDS, site=WORDS, operand=WORDS, offset=offsets)


def float32_values() -> st.SearchStrategy[np.float32]:
    """Any float32 but NaN: every bit pattern alike, half integers, and the edges of float32."""
    patterns = WORDS.map(lambda word: np.uint32(word).view(np.float32)).filter(lambda x: not np.isnan(x))
    halves = st.integers(-(1 << 18), 1 << 18).map(lambda k: np.float32(k / 2))
    edges = st.sampled_from([*EDGES, *-EDGES])
    return st.one_of(patterns, halves, edges)


def _around_codes(fmt: FloatFormat) -> st.SearchStrategy[np.float32]:
    def near(code: int, quarters: int, nudge: float, sign: float) -> np.float32:
        low, high = (
            float_value(code, fmt),
            float_value(code + 1, fmt) if code < fmt.max_code else fmt.max_value,
        )
        with np.errstate(over="ignore", under="ignore"):
            x = np.float32(sign * (low + (high - low) * quarters / 4))
        return np.nextafter(x, np.float32(nudge)) if nudge else x

    nudges = st.sampled_from([0.0, -3e38, 3e38])
    return st.builds(
        near, st.integers(0, fmt.max_code), st.integers(0, 3), nudges, st.sampled_from([1.0, -1.0])
    )


def values_for(fmt: Format) -> st.SearchStrategy[np.float32]:
    """Float32 values, many of them beside the values and ties of a format."""
    return float32_values() if isinstance(fmt, IntFormat) else st.one_of(float32_values(), _around_codes(fmt))


def arrays(
    elements: st.SearchStrategy, shape: st.SearchStrategy | tuple[int, ...]
) -> st.SearchStrategy[np.ndarray]:
    """Float32 arrays of the given elements."""
    return hnp.arrays(np.float32, shape, elements=elements, fill=st.nothing())
