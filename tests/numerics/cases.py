"""Inputs that tell a right rounding from a wrong one, and the definition and its twin over whole arrays."""

import functools

import numpy as np

from lowbit_sim.numerics import kernels
from lowbit_sim.numerics.catalog import CATALOG
from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference import float_code, float_value, integer_code
from lowbit_sim.numerics.rounding import Rounding, RoundingMode

SMALL_FORMATS = [fmt for fmt in CATALOG.values() if fmt.bits <= 8]
SMALL_INTEGERS = [fmt for fmt in SMALL_FORMATS if isinstance(fmt, IntFormat)]
FLOATS = [fmt for fmt in CATALOG.values() if isinstance(fmt, FloatFormat)]
SMALL_FLOATS = [fmt for fmt in FLOATS if fmt.bits <= 8]

#: Float32 values at the edges of float32 itself.
EDGES = np.array(
    [
        0.0,
        2.0**-149,
        1e-40,
        2.0**-126,
        1e-30,
        2.0**24,
        2.0**31,
        1e30,
        2.0**127,
        3.4028234663852886e38,
        np.inf,
    ],
    dtype=np.float32,
)


def rounding(mode: str, overflow: str = "saturate", random_bits: int = 8) -> Rounding:
    """A rounding; random_bits counts only where the mode draws."""
    stochastic = mode == RoundingMode.STOCHASTIC
    return Rounding(mode, overflow, random_bits if stochastic else 0)  # pyright: ignore[reportArgumentType]


def overflows(fmt: Format) -> list[str]:
    """The overflow rules that a format can have."""
    if isinstance(fmt, IntFormat):
        return ["saturate"] if fmt.symmetric else ["saturate", "wrap"]
    return ["saturate", "infinity"] if fmt.has_infinity or fmt.has_nan else ["saturate"]


@functools.cache
def magnitudes(fmt: Format) -> np.ndarray:
    """The non-negative finite values of a format in ascending order, float64."""
    if isinstance(fmt, IntFormat):
        return np.arange(fmt.qmax + 1, dtype=np.float64)
    return np.unique([float_value(code, fmt) for code in range(fmt.max_code + 1)])


@functools.cache
def probes(fmt: Format) -> np.ndarray:
    """Float32 inputs, ascending: every value, every tie, quarter points, all of their neighbours, the edges.

    Values beyond the largest one run to twice it, so that ties of the overflow are among them.
    """
    values = magnitudes(fmt)
    beyond = values[-1] + (values[-1] - values[-2]) * np.arange(1, 4)
    values = np.concatenate([values, beyond, 2 * beyond])
    steps = np.diff(values)
    points = np.concatenate([values, *(values[:-1] + steps * part for part in (0.25, 0.5, 0.75))])
    points = points[points <= np.finfo(np.float32).max].astype(np.float32)
    near = [np.nextafter(points, np.float32(limit)) for limit in (0.0, 3e38)]
    positive = np.unique(np.concatenate([points, *near, EDGES]))
    return np.concatenate([-positive[::-1], positive])


def reference_codes(
    y: np.ndarray, fmt: Format, how: Rounding, stream: Stream | None = None, zero_point: int = 0
) -> np.ndarray:
    """`reference.integer_code` or `reference.float_code` of every element of a float32 array: int64 [n]."""
    draws = [0] * y.size
    if how.is_stochastic:
        assert stream is not None
        draws = [draw(stream, i, how.random_bits) for i in range(y.size)]
    pairs = zip(y.reshape(-1).tolist(), draws, strict=True)
    if isinstance(fmt, IntFormat):
        codes = [integer_code(value, fmt, how, random, zero_point) for value, random in pairs]
    else:
        codes = [float_code(value, fmt, how, random) for value, random in pairs]
    return np.array(codes, dtype=np.int64).reshape(y.shape)


def kernel_codes(
    y: np.ndarray, fmt: Format, how: Rounding, stream: Stream | None = None, zero_point: int = 0
) -> np.ndarray:
    """The compiled twin of `reference_codes`."""
    codes = np.empty(y.size, dtype=np.int64)
    flat, inv = np.ascontiguousarray(y, dtype=np.float32).reshape(-1), np.ones(1, dtype=np.float32)
    if isinstance(fmt, IntFormat):
        zero_points = np.array([zero_point], dtype=np.int64)
        kernels.quantize_to_integers(flat, inv, zero_points, kernels.ROW_ELEMENTS, fmt, how, stream, codes)
    else:
        kernels.quantize_to_floats(flat, inv, kernels.ROW_ELEMENTS, fmt, how, stream, codes)
    return codes.reshape(y.shape)


def stream_draws(stream: Stream, count: int, width: int) -> np.ndarray:
    """The first `count` pieces of 8, 16 or 32 bits that a stream without offset gives: int64 [count]."""
    assert stream.offset == 0
    words = kernels.philox_blocks(stream, 0, -(-count * width // 128)).astype("<u4")
    return words.reshape(-1).view(f"<u{width // 8}")[:count].astype(np.int64)
