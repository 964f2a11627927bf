"""Hypothesis strategies for formats, roundings and quantisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from hypothesis import strategies as st

from lowbit_sim.numerics.block_formats import block_floating_point
from lowbit_sim.numerics.catalog import CATALOG, as_format
from lowbit_sim.numerics.encode import check_rounding
from lowbit_sim.numerics.formats import (
    BlockFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
    LogFormat,
    PositFormat,
)
from lowbit_sim.numerics.rounding import MAX_RANDOM_BITS, Overflow, Rounding, RoundingMode
from lowbit_sim.quant.granularity import PerAxis, PerBlock, PerGroup, PerSample, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, FixedScale, MinMaxScale, PowerOfTwoScale

Kind = Literal["any", "element", "integer", "fixed", "float", "table", "block"]


def formats(kind: Kind = "element", *, max_bits: int = 16) -> st.SearchStrategy[Format]:
    """Number formats.

    Args:
        kind: "integer" (symmetric, full-range and unsigned ones of 2 to 16 bits), "fixed" (fixed point), "float" (1
            to 8 exponent bits, 0 to 10 mantissa bits, any bias that float32 holds, with or without infinity, NaN
            and subnormals), "table" (logarithmic, posit), "block" (MX, NVFP4, block floating point); "element" (all
            but blocks) or "any".
        max_bits: Bits of the widest (element) format, at least 4.

    Raises:
        ValueError: An unknown kind, or fewer than 4 bits, of which some kinds have no format.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is one of {', '.join(get_args(Kind))}; got {kind!r}")
    if max_bits < 4:
        raise ValueError(f"some kinds of format have 4 bits or more, got max_bits={max_bits}")
    named = [f for f in CATALOG.values() if f.bits <= max_bits]
    choices: dict[str, st.SearchStrategy[Format]] = {
        "integer": _integers(min(max_bits, 16)),
        "fixed": _fixed_points(min(max_bits, 16)),
        "float": st.sampled_from([f for f in named if isinstance(f, FloatFormat)])
        | _floats().filter(lambda f: f.bits <= max_bits),
        "table": st.sampled_from([f for f in named if isinstance(f, LogFormat | PositFormat)]),
    }
    if kind == "element":
        return st.one_of(*choices.values())
    choices["block"] = st.sampled_from([f for f in named if isinstance(f, BlockFormat)]) | _block_floats(
        max_bits
    )
    return st.one_of(*choices.values()) if kind == "any" else choices[kind]


def _fixed_points(max_bits: int) -> st.SearchStrategy[FixedFormat]:
    return st.builds(
        FixedFormat,
        word_length=st.integers(2, max_bits),
        fraction_length=st.integers(-2, 10),
        symmetric=st.booleans(),
    )


def _block_floats(max_bits: int) -> st.SearchStrategy[BlockFormat]:
    return st.builds(
        block_floating_point, st.integers(3, min(max_bits, 16)), block=st.sampled_from([2, 3, 8, 0])
    )


def _integers(max_bits: int) -> st.SearchStrategy[IntFormat]:
    kinds = st.sampled_from([(True, True), (True, False), (False, False)])
    return st.builds(
        lambda bits, kind: IntFormat(bits=bits, signed=kind[0], symmetric=kind[1]),
        st.integers(2, max_bits),
        kinds,
    )


@st.composite
def _floats(draw: Callable) -> FloatFormat:
    exponent_bits, mantissa_bits = draw(st.integers(1, 8)), draw(st.integers(0, 10))
    infinity, nan, subnormals = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    if mantissa_bits == 0 and infinity and nan:
        infinity = False
    if exponent_bits == 1 and (infinity or nan):
        # One exponent field is left, which holds the subnormals.
        subnormals, mantissa_bits = True, max(mantissa_bits, 1)
    reserved = 1 if (infinity and nan) or (mantissa_bits == 0 and (infinity or nan)) else 0
    return FloatFormat(
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        bias=draw(st.integers((1 << exponent_bits) - 128 - reserved, 150 - mantissa_bits)),
        has_infinity=infinity,
        has_nan=nan,
        has_subnormals=subnormals,
    )


@st.composite
def roundings(draw: Callable, format: Format | str, *, stochastic: bool = True) -> Rounding:
    """Any rounding that a quantiser of the format accepts.

    Args:
        draw: Supplied by Hypothesis.
        format: The format, or its name.
        stochastic: Whether stochastic rounding, with 1 to 32 random bits, is among them.
    """
    fmt = as_format(format)
    modes = [m.value for m in RoundingMode if stochastic or m is not RoundingMode.STOCHASTIC]
    rules = [
        (mode, overflow) for mode in modes for overflow in get_args(Overflow) if _accepts(fmt, mode, overflow)
    ]
    mode, overflow = draw(st.sampled_from(rules))
    random_bits = draw(st.integers(1, MAX_RANDOM_BITS)) if mode == RoundingMode.STOCHASTIC else 0
    return Rounding(mode, overflow, random_bits)


def _accepts(fmt: Format, mode: str, overflow: Overflow) -> bool:
    random_bits = 8 if mode == RoundingMode.STOCHASTIC else 0
    try:
        check_rounding(fmt, Rounding(mode, overflow, random_bits))
    except ValueError:
        return False
    return True


@st.composite
def quantizers(draw: Callable, format: Format | str | None = None, *, stochastic: bool = True) -> Quantizer:
    """Quantisers of one or any format: every rounding and granularity; absmax, power-of-two, min-max (integer
    formats) and fixed scales. They take tensors of one axis or more.

    Args:
        draw: Supplied by Hypothesis.
        format: The format or its name, or None for any.
        stochastic: Whether stochastic rounding is among the roundings.
    """
    fmt = draw(formats("any")) if format is None else as_format(format)
    rounding = draw(roundings(fmt, stochastic=stochastic))
    if isinstance(fmt, BlockFormat):  # brings its own granularity and scales
        return Quantizer(fmt, rounding=rounding)
    rules = [AbsMaxScale(), PowerOfTwoScale(), FixedScale(1.0), FixedScale(0.375)]
    if isinstance(fmt, IntFormat):
        rules.append(MinMaxScale())
    shared = [PerTensor(), PerAxis(0), PerAxis(-1), PerSample(), PerGroup(2, 0), PerBlock(3)]
    return Quantizer(
        fmt,
        granularity=draw(st.sampled_from(shared)),
        scale=draw(st.sampled_from(rules)),
        rounding=rounding,
    )
