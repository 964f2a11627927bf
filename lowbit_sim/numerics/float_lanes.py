"""Codes of float formats in 32-bit lanes: the fast twin of `reference.float_code`.

Importing this module imports numba. With m mantissa bits and the smallest normal exponent e0, y = fp32(x inv) becomes

    q = significand(y) 2^m                     in [2^m, 2^(m+1)), where y's exponent e is at least e0
    q = |y| 2^(m - e0)                         below 2^m otherwise (2^-e0 |y| without subnormals)
    magnitude of the code = (max(e, e0) - e0) 2^m + round(q)

and a carry out of the mantissa moves into the exponent by itself. The first q is y's bits under another exponent, the
second a multiplication by a power of two of at least 1 (`fits`): both exact, and so is rounding them (`lanes.py`). q
keeps y's sign, so that "down" and "up" act on the number; stochastic rounding acts on the magnitude. An element
takes about 20 operations of a 32-bit lane, 30 where it draws.
"""

from __future__ import annotations

import sys

import numba
import numpy as np
from numba import float32, int32

from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.lanes import CHUNK, _round_lanes, _round_with_draws, _spread
from lowbit_sim.numerics.philox_kernel import _fill_draws
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding, RoundingMode
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

_STOCHASTIC = MODE_CODES[RoundingMode.STOCHASTIC]

_EXPONENT = np.int32(0x7F800000)
_SIGNIFICAND = np.int32(-0x7F800001)  # the sign and the mantissa: 0x807FFFFF


def fits(fmt: FloatFormat, rounding: Rounding) -> bool:
    """Whether 32-bit lanes find the codes exactly; see the module's docstring."""
    if fmt.bits >= 32 or rounding.random_bits > 16 or sys.byteorder != "little":
        return False
    # Below -126 float32's own exponent field is 0 already.
    if fmt.min_exponent < -126 or _scale_exponent(fmt) < 0:
        return False
    return ((2 << fmt.mantissa_bits) + 1) << rounding.random_bits <= 1 << 24


def _scale_exponent(fmt: FloatFormat) -> int:
    return (fmt.mantissa_bits if fmt.has_subnormals else 0) - fmt.min_exponent


@cached()
def _split(x, low_bits, normal_bits, factor_1, factor_2, magnitudes, q, bits):
    """q before rounding, of scales that stand in it, and the bits of y; the number of NaNs."""
    nans = int32(0)
    for i in range(x.size):
        y = x[i] * q[i]
        nans = int32(nans + int32(y != y))
        b = np.float32(y).view(np.int32)
        bits[i] = b
        normal = np.int32(int32(b & _SIGNIFICAND) | normal_bits).view(np.float32)
        value = y * factor_1 * factor_2 if int32(b & _EXPONENT) < low_bits else normal
        q[i] = abs(value) if magnitudes else value
    return nans


@cached()
def _assemble(q, bits, low_bits, shift, first_normal, max_code, overs, infinity, nan_code, sign_bit, codes):
    """The codes of rounded q; `first_normal` is 2^m where what lies below it is zero, else 0."""
    over_positive, over_negative = int32(overs[0]), int32(overs[1])
    for i in range(q.size):
        b = bits[i]
        exponent = int32(b & _EXPONENT)
        above = int32(max(int32(exponent - low_bits), int32(0)))
        mantissa = abs(q[i])
        mantissa = mantissa * first_normal if mantissa < first_normal else mantissa
        magnitude = int32(int32(above >> (shift & 31)) + int32(mantissa))
        over = over_negative if b < 0 else over_positive
        magnitude = over if magnitude > max_code else magnitude
        magnitude = infinity if exponent == _EXPONENT else magnitude
        code = int32(magnitude | (sign_bit if b < 0 else int32(0)))
        codes[i] = nan_code if int32(b & int32(0x7FFFFFFF)) > _EXPONENT else code


@cached()
def _quantize_chunk(x, inv, start, run, layout, factors, overs, mode, random_bits, width, address, codes):
    low_bits, normal_bits, shift, first_normal, max_code, infinity, nan_code, sign_bit = layout
    q, bits = np.empty(x.size, np.float32), np.empty(x.size, np.int32)
    _spread(inv, start, run, q)
    factor_1, factor_2 = factors
    nans = _split(x, int32(low_bits), int32(normal_bits), factor_1, factor_2, mode == _STOCHASTIC, q, bits)
    if mode == _STOCHASTIC:
        seed, operand, step, site, offset = address
        draws = np.empty(x.size, np.float32)
        _fill_draws(offset + start, width, random_bits, seed, operand, step, site, draws)
        _round_with_draws(q, random_bits, draws)
    else:
        _round_lanes(q, mode)
    _assemble(
        q,
        bits,
        int32(low_bits),
        int32(shift),
        float32(first_normal),
        int32(max_code),
        overs,
        int32(infinity),
        int32(nan_code),
        int32(sign_bit),
        codes,
    )
    return nans


@cached(parallel=True)
def _quantize(x, inv, run, layout, factors, overs, mode, random_bits, width, address, codes):
    nans = 0
    for chunk in numba.prange((x.size + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        part, out = x[start : start + CHUNK], codes[start : start + CHUNK]
        nans += _quantize_chunk(
            part, inv, start, run, layout, factors, overs, mode, random_bits, width, address, out
        )
    return nans


def quantize(
    x: np.ndarray,
    inv: np.ndarray,
    run: int,
    fmt: FloatFormat,
    rounding: Rounding,
    overflow: int,
    width: int,
    address: tuple[int, int, int, int, int],
    codes: np.ndarray,
) -> int:
    """Fill `codes`; the number of NaNs in x.

    Args:
        x: float32 [n].
        inv: float32 [channels]; element i belongs to channel (i // run) % channels.
        run: Run length of a channel.
        fmt: The format; `fits` holds.
        rounding: Mode and overflow.
        overflow: Magnitude bits of an infinity.
        width: Bits of a draw.
        address: The stream's seed, operand, step, site and offset.
        codes: Integer [n], written.
    """
    m, scale_exponent = fmt.mantissa_bits, _scale_exponent(fmt)
    layout = (
        (fmt.min_exponent + 127) << 23,
        (127 + m) << 23,
        23 - m,
        0 if fmt.has_subnormals else 1 << m,
        fmt.max_code,
        overflow,
        0 if fmt.nan_code is None else fmt.nan_code,
        1 << (fmt.bits - 1),
    )
    factors = tuple(np.float32(2.0**k) for k in (min(scale_exponent, 127), max(scale_exponent - 127, 0)))
    # A mode that rounds a sign's magnitude down never reaches its infinity.
    down = (RoundingMode.TOWARD_ZERO, RoundingMode.DOWN), (RoundingMode.TOWARD_ZERO, RoundingMode.UP)
    overs = tuple(fmt.max_code if rounding.mode in modes else overflow for modes in down)
    mode = MODE_CODES[rounding.mode]
    nans = _quantize(x, inv, run, layout, factors, overs, mode, rounding.random_bits, width, address, codes)
    return int(nans)
