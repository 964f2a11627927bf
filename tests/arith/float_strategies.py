"""Hypothesis strategies for floating-point MAC units and their operands."""

import math

import numpy as np
import torch
from hypothesis import strategies as st

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP8_E4M3FN, FP8_E5M2, FP16, FP32, TF32
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.reference import float_value
from lowbit_sim.numerics.rounding import Rounding, RoundingMode

#: 1 + 6 + 9 bits: the accumulator of Wang et al. 2018.
FP16_E6M9 = FloatFormat(exponent_bits=6, mantissa_bits=9, bias=31, name="fp16_e6m9")

FORMATS = [
    FP4_E2M1,
    FP8_E4M3FN,
    FP8_E5M2,
    FP16,
    BF16,
    TF32,
    FP32,
    FP16_E6M9,
    FloatFormat(exponent_bits=3, mantissa_bits=4, bias=3, name="e3m4"),
    FloatFormat(exponent_bits=4, mantissa_bits=3, bias=7, has_subnormals=False, name="e4m3_flushed"),
    FloatFormat(exponent_bits=5, mantissa_bits=0, bias=15, has_nan=False, name="e5m0"),
    FloatFormat(exponent_bits=5, mantissa_bits=8, bias=15, has_infinity=False, has_nan=False, name="e5m8"),
]


def has_overflow_value(fmt: FloatFormat | None) -> bool:
    return fmt is None or fmt.has_infinity or fmt.has_nan


@st.composite
def roundings(draw, formats, modes=tuple(RoundingMode)):
    """Roundings that every one of the formats can do."""
    mode = draw(st.sampled_from(modes))
    overflows = ["saturate", "infinity"] if all(map(has_overflow_value, formats)) else ["saturate"]
    bits = draw(st.integers(1, 27)) if mode == RoundingMode.STOCHASTIC else 0
    return Rounding(mode, overflow=draw(st.sampled_from(overflows)), random_bits=bits)


DETERMINISTIC = tuple(mode for mode in RoundingMode if mode != RoundingMode.STOCHASTIC)


@st.composite
def float_mac_units(draw):
    formats = st.sampled_from(FORMATS)
    accumulator, outer, product = draw(formats), draw(st.none() | formats), draw(st.none() | formats)
    kahan = draw(st.booleans())
    return FloatMacUnit(
        accumulator=accumulator,
        rounding=draw(roundings([accumulator, outer])),
        chunk=draw(st.sampled_from([0, 0, 1, 2, 3, 7])),
        outer=outer,
        order="sequential" if kahan else draw(st.sampled_from(["sequential", "tree"])),
        product=product,
        product_rounding=draw(roundings([product], DETERMINISTIC)) if product else None,
        kahan=kahan,
    )


@st.composite
def _elements(draw):
    """A strategy of float32 values: one family for a matrix."""
    family = draw(st.sampled_from(["format", "extremes", "float32", "whole", "equal"]))
    if family == "float32":
        return st.floats(width=32)
    if family == "whole":
        scale = 2.0 ** draw(st.integers(-20, 10))
        return st.integers(-255, 255).map(lambda n: n * scale)
    fmt = draw(st.sampled_from(FORMATS))
    if family == "equal":
        return st.just(float_value(draw(st.integers(0, fmt.max_code)), fmt))
    if family == "format":
        return st.builds(lambda c, s: s * float_value(c, fmt), st.integers(0, fmt.max_code), signs)
    edges = [fmt.max_value, float_value(1, fmt), 0.0, 1.0, 1 + 2.0**-fmt.mantissa_bits, math.inf, math.nan]
    return st.builds(lambda x, s: s * x, st.sampled_from(edges[: draw(st.sampled_from([5, 6, 7]))]), signs)


signs = st.sampled_from([1.0, -1.0])


@st.composite
def float_operands(draw, most_k: int = 12):
    """Two float32 matrices [M, K] and [K, N]."""
    m, n, k = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, most_k))

    def matrix(rows: int, columns: int):
        values = draw(st.lists(draw(_elements()), min_size=rows * columns, max_size=rows * columns))
        return torch.from_numpy(np.array(values, dtype=np.float32).reshape(rows, columns))

    return matrix(m, k), matrix(k, n)


def same_bits(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether two float32 tensors hold the same bits; every NaN is the same."""
    if x.dtype != y.dtype or x.shape != y.shape or not torch.equal(x.isnan(), y.isnan()):
        return False
    numbers = ~x.isnan()
    return torch.equal(x[numbers].view(torch.int32), y[numbers].view(torch.int32))
