"""Inputs that tell a right rounding from a wrong one, and the definition and its twin over whole arrays."""

import functools

import numpy as np

from lowbit_sim.numerics import kernels
from lowbit_sim.numerics.catalog import CATALOG
from lowbit_sim.numerics.encode import check_rounding, code_range, encode
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
    LogFormat,
    PositFormat,
)
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference import decode_value, encode_value, float_value
from lowbit_sim.numerics.rounding import Rounding, RoundingMode

SMALL_FORMATS = [
    fmt for fmt in CATALOG.values() if isinstance(fmt, IntFormat | FloatFormat) and fmt.bits <= 8
]
SMALL_INTEGERS = [fmt for fmt in SMALL_FORMATS if isinstance(fmt, IntFormat)]
#: Without fp32, whose codes are too many to go through.
FLOATS = [fmt for fmt in CATALOG.values() if isinstance(fmt, FloatFormat) and fmt.bits < 32]
SMALL_FLOATS = [fmt for fmt in FLOATS if fmt.bits <= 8]

#: The 16 values of NF4 (Dettmers et al. 2023, appendix E): 24-bit mantissas, uneven, 0 among them.
NF4 = CodebookFormat(
    values=(
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
    name="nf4",
)

#: One of each family that the catalogue can only name with parameters.
SAMPLES: list[ElementFormat] = [
    FixedFormat(word_length=2, fraction_length=0),
    FixedFormat(word_length=8, fraction_length=6),
    FixedFormat(word_length=8, fraction_length=6, symmetric=True),
    FixedFormat(word_length=5, fraction_length=-3),
    FixedFormat(word_length=4, fraction_length=149, symmetric=True),
    FixedFormat(word_length=16, fraction_length=12),
    LogFormat(exponent_bits=1, radix=2, bias=0),
    LogFormat(exponent_bits=5, radix=4, odd=True),
    PositFormat(bits=3, exponent_bits=0),
    PositFormat(bits=6, exponent_bits=3),
    NF4,
    CodebookFormat(values=(-3.0, -1.0, 2.0), name="without_zero"),
    CodebookFormat(values=(0.25, 1.0, 1024.0, 1048576.0), name="positive"),
    CodebookFormat(values=(-1.0, 1.0), name="two"),
    CodebookFormat(values=(2.0**-20, 2.0**23), name="far_apart"),
]

#: Every format of single numbers in the catalogue, and the samples.
ELEMENTS: list[ElementFormat] = [
    *(fmt for fmt in CATALOG.values() if not isinstance(fmt, BlockFormat)),
    *SAMPLES,
]

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
    return [rule for rule in ("saturate", "wrap", "infinity") if _can_have(fmt, rounding("down", rule))]


def _can_have(fmt: Format, how: Rounding) -> bool:
    try:
        check_rounding(fmt, how)
    except ValueError:
        return False
    return True


@functools.cache
def magnitudes(fmt: IntFormat | FloatFormat) -> np.ndarray:
    """The non-negative finite values of a format in ascending order, float64."""
    if isinstance(fmt, IntFormat):
        return np.arange(fmt.qmax + 1, dtype=np.float64)
    return np.unique([float_value(code, fmt) for code in range(fmt.max_code + 1)])


@functools.cache
def probes(fmt: IntFormat | FloatFormat) -> np.ndarray:
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


@functools.cache
def some_values(fmt: ElementFormat) -> np.ndarray:
    """Finite values of a format, ascending float64: all up to 8 bits, else both ends, zero and some hundred."""
    low, high = code_range(fmt)
    tops = [fmt.max_code, fmt.max_code + (1 << (fmt.bits - 1))] if isinstance(fmt, FloatFormat) else []
    codes = np.arange(low, high + 1) if fmt.bits <= 8 else _some_codes(low, high, tops)
    values = np.unique([decode_value(int(code), fmt) for code in codes])
    return values[np.isfinite(values)]


def _some_codes(low: int, high: int, tops: list[int]) -> np.ndarray:
    starts = np.linspace(low, high - 1, 60).astype(np.int64)
    middle = (low + high + 1) // 2
    near = [np.arange(at - 6, at + 7) for at in (low, 0, middle, high, *tops)]
    codes = np.unique(np.concatenate([starts, starts + 1, *near]))
    return codes[(low <= codes) & (codes <= high)]


@functools.cache
def element_probes(fmt: ElementFormat) -> np.ndarray:
    """Float32 inputs: `some_values`, points between neighbours, all of their float32 neighbours, the edges.

    Between neighbours lie quarters, the midpoint and the geometric mean (a posit's tie at its widest steps);
    beyond the ends as far again.
    """
    values = some_values(fmt)
    steps = np.diff(values)
    points = [values[:-1] + steps * part for part in (0.25, 0.5, 0.75)]
    same_sign = values[:-1] * values[1:] > 0
    means = np.sqrt(np.abs(values[:-1][same_sign]) * np.abs(values[1:][same_sign])) * np.sign(
        values[1:][same_sign]
    )
    beyond = [values[0] - steps[0] * np.arange(1, 4) / 2, values[-1] + steps[-1] * np.arange(1, 4) / 2]
    every = np.concatenate([values, *points, means, *beyond])
    every = every[np.abs(every) <= np.finfo(np.float32).max].astype(np.float32)
    near = [np.nextafter(every, np.float32(limit)) for limit in (-3e38, 3e38)]
    return np.unique(np.concatenate([every, *near, EDGES, -EDGES]))


def reference_codes(
    y: np.ndarray, fmt: ElementFormat, how: Rounding, stream: Stream | None = None, zero_point: int = 0
) -> np.ndarray:
    """`reference.encode_value` of every element of a float32 array: int64 [n]."""
    draws = [0] * y.size
    if how.is_stochastic:
        assert stream is not None
        draws = [draw(stream, i, how.random_bits) for i in range(y.size)]
    pairs = zip(y.reshape(-1).tolist(), draws, strict=True)
    codes = [encode_value(value, fmt, how, random, zero_point) for value, random in pairs]
    return np.array(codes, dtype=np.int64).reshape(y.shape)


def kernel_codes(
    y: np.ndarray, fmt: ElementFormat, how: Rounding, stream: Stream | None = None, zero_point: int = 0
) -> np.ndarray:
    """The compiled twin of `reference_codes`."""
    codes = np.empty(y.size, dtype=np.int64)
    flat, inv = np.ascontiguousarray(y, dtype=np.float32).reshape(-1), np.ones(1, dtype=np.float32)
    zero_points = np.array([zero_point], dtype=np.int64)
    encode(flat, inv, zero_points, kernels.ROW_ELEMENTS, fmt, how, stream, codes)
    return codes.reshape(y.shape)


def stream_draws(stream: Stream, count: int, width: int) -> np.ndarray:
    """The first `count` pieces of 8, 16 or 32 bits that a stream without offset gives: int64 [count]."""
    assert stream.offset == 0
    words = kernels.philox_blocks(stream, 0, -(-count * width // 128)).astype("<u4")
    return words.reshape(-1).view(f"<u{width // 8}")[:count].astype(np.int64)
