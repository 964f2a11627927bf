"""Compiled twins of `reference.py` and `random.py`: same bits, whole arrays.

Importing this module imports numba, so it is imported only where a kernel is about to run. Rows are the
unit of parallel work and no result depends on how rows are shared out, so the bits do not depend on the
number of threads. No kernel is compiled with fastmath: `x * inv` is one IEEE float32 multiply.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numba
import numpy as np
from numba import float64, int64, uint64

from lowbit_sim.numerics import float_lanes, integer_lanes, whole_lanes
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat, IntFormat
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.philox_kernel import _philox as _philox
from lowbit_sim.numerics.philox_kernel import philox_blocks as philox_blocks
from lowbit_sim.numerics.random import Stream, draw_width
from lowbit_sim.numerics.reference import overflow_code
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding, RoundingMode
from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba

prepare_numba()

_NEAREST_EVEN = MODE_CODES[RoundingMode.NEAREST_EVEN]
_NEAREST_AWAY = MODE_CODES[RoundingMode.NEAREST_AWAY]
_TOWARD_ZERO = MODE_CODES[RoundingMode.TOWARD_ZERO]
_DOWN = MODE_CODES[RoundingMode.DOWN]
_UP = MODE_CODES[RoundingMode.UP]
_STOCHASTIC = MODE_CODES[RoundingMode.STOCHASTIC]

#: Elements that one row of work holds when a tensor has a single scale.
ROW_ELEMENTS = 1 << 14

#: |y| is cut here before it becomes an integer; it is beyond every 16-bit code and its zero point.
_LIMIT = np.float64(1 << 20)


@numba.njit(inline="always")
def _round(y, mode, random, random_bits):
    """Round a float64 that holds a float32 scaled by a power of two, |y| < 2^41; see `reference`.

    Every step is exact: y has at most 24 significant bits, so adding one half (where |y| < 2^52) and
    scaling by 2^random_bits lose nothing.
    """
    if mode == _NEAREST_EVEN:
        return int64(np.rint(y))
    if mode == _NEAREST_AWAY:
        # The sum is inexact for the smallest |y| only: it comes out as 0.5, and the floor is 0 all the same.
        return int64(np.copysign(np.floor(abs(y) + 0.5), y))
    if mode == _TOWARD_ZERO:
        return int64(np.trunc(y))
    if mode == _DOWN:
        return int64(math.floor(y))
    if mode == _UP:
        return int64(math.ceil(y))
    # floor(y) + [floor(frac(y) 2^r) + R >= 2^r] is floor((floor(y 2^r) + R) / 2^r).
    scaled = int64(math.floor(y * float64(int64(1) << random_bits)))
    return (scaled + random) >> random_bits


@numba.njit(inline="always")
def _to_code(y, mode, wrap, qmin, qmax, zero_point, modulus, random, random_bits):
    """The code of a scaled value; see `reference.integer_code`."""
    if wrap and not math.isinf(y):
        # The remainder is exact, and a multiple of 2^16 changes no low bits.
        y = np.fmod(y, 65536.0) if abs(y) >= _LIMIT else y
        code = _round(y, mode, random, random_bits) + zero_point - qmin
        return (code & (modulus - 1)) + qmin
    code = _round(min(max(y, -_LIMIT), _LIMIT), mode, random, random_bits) + zero_point
    if math.isinf(y):
        code = qmax if y > 0 else qmin
    return min(max(code, qmin), qmax)


def _integer_kernel(mode: int, wrap: bool) -> Callable[..., int]:
    # The kernels close over plain values only: numba's cache on disk finds an entry by the closure's contents,
    # and a compiled function among them differs in each process.
    @cached(parallel=True)
    def deterministic(x, inv, zero_points, inner, steps, qmin, qmax, modulus, codes):
        nans = 0
        for row in numba.prange((x.size + inner - 1) // inner):
            channel = row % inv.size
            for i in range(row * inner, min((row + 1) * inner, x.size)):
                y = float64(x[i] * inv[channel]) * steps
                nans += int(math.isnan(y))
                codes[i] = _to_code(y, mode, wrap, qmin, qmax, zero_points[channel], modulus, 0, 0)
        return nans

    @cached(parallel=True)
    def stochastic(
        x,
        inv,
        zero_points,
        inner,
        steps,
        qmin,
        qmax,
        modulus,
        codes,
        random_bits,
        width,
        seed,
        operand,
        step,
        site,
        offset,
    ):
        per_block = 128 // width
        per_word = 32 // width
        mask = (int64(1) << random_bits) - 1
        nans = 0
        for row in numba.prange((x.size + inner - 1) // inner):
            channel = row % inv.size
            scale_inv = inv[channel]
            zero_point = zero_points[channel]
            i = row * inner
            stop = min((row + 1) * inner, x.size)
            while i < stop:
                block = (offset + i) // per_block
                piece = (offset + i) - block * per_block
                words = _philox(block, step, site, seed, operand)
                last = min(stop, i + per_block - piece)
                for j in range(i, last):
                    place = piece + j - i
                    word = words[place // per_word]
                    random = int64(word >> uint64((place % per_word) * width)) & mask
                    y = float64(x[j] * scale_inv) * steps
                    nans += int(math.isnan(y))
                    codes[j] = _to_code(y, mode, wrap, qmin, qmax, zero_point, modulus, random, random_bits)
                i = last
        return nans

    return stochastic if mode == _STOCHASTIC else deterministic


_integer_kernel = functools.cache(_integer_kernel)


def quantize_to_integers(
    x: np.ndarray,
    inv: np.ndarray,
    zero_points: np.ndarray,
    inner: int,
    fmt: IntFormat | FixedFormat,
    rounding: Rounding,
    stream: Stream | None,
    codes: np.ndarray,
) -> int:
    """Fill `codes` with the integer codes of x; the twin of `reference.integer_code`.

    Args:
        x: float32 [n]; the codes of NaNs mean nothing.
        inv: float32 [channels], the reciprocal scales.
        zero_points: int64 [channels], or [1] for all.
        inner: Run length of a channel: element i belongs to channel (i // inner) % channels.
        fmt: The format.
        rounding: Mode and overflow.
        stream: Address of the random bits; needed for stochastic rounding only.
        codes: Integer [n], written.

    Returns:
        The number of NaNs in x.
    """
    match_torch_threads(x.size // ROW_ELEMENTS)
    steps, mode = 1.0 / fmt.unit, MODE_CODES[rounding.mode]
    address = _address(stream) if stream is not None else (0, 0, 0, 0, 0)
    if inv.size == 1 and not zero_points.any() and integer_lanes.fits(fmt, rounding, zero_points[:1]):
        numbers = (inv[0], np.float32(steps), np.float32(fmt.qmin), np.float32(fmt.qmax), mode)
        width = draw_width(rounding.random_bits)
        return int(whole_lanes.quantize(x, *numbers, rounding.random_bits, width, address, codes))
    if integer_lanes.fits(fmt, rounding, zero_points):
        nans = integer_lanes.quantize(
            x,
            inv,
            zero_points.astype(np.float32),
            inner,
            np.float32(steps),
            np.float32(fmt.qmin),
            np.float32(fmt.qmax),
            mode,
            rounding.random_bits,
            draw_width(rounding.random_bits),
            address,
            codes,
        )
        return int(nans)
    kernel = _integer_kernel(mode, rounding.overflow == "wrap")
    zero_points = np.ascontiguousarray(np.broadcast_to(zero_points, inv.shape))
    arguments = (x, inv, zero_points, inner, steps, fmt.qmin, fmt.qmax, 1 << fmt.bits, codes)
    if rounding.is_stochastic:
        return kernel(*arguments, rounding.random_bits, draw_width(rounding.random_bits), *address)
    return kernel(*arguments)


def _address(stream: Stream) -> tuple[int, int, int, int, int]:
    return stream.seed, stream.operand, stream.step, stream.site, stream.offset


@numba.njit(inline="always")
def _float_magnitude(magnitude, mantissa_bits, min_exponent, has_subnormals, mode, random, random_bits):
    """Magnitude bits before overflow, of a finite magnitude; see `reference.float_code`."""
    _, exponent = math.frexp(magnitude)
    exponent = max(exponent - 1, min_exponent) if magnitude > 0 else min_exponent
    if not has_subnormals and magnitude < math.ldexp(1.0, min_exponent):
        return _round(math.ldexp(magnitude, -min_exponent), mode, random, random_bits) << mantissa_bits
    mantissa = _round(math.ldexp(magnitude, mantissa_bits - exponent), mode, random, random_bits)
    return (int64(exponent - min_exponent) << mantissa_bits) + mantissa


def _float_kernel(mode: int) -> Callable[..., int]:
    negative_mode = {_DOWN: _UP, _UP: _DOWN}.get(mode, mode)
    rounds_down = mode in (_DOWN, _TOWARD_ZERO)
    negative_rounds_down = negative_mode in (_DOWN, _TOWARD_ZERO)

    @cached(parallel=True)
    def kernel(
        x,
        inv,
        inner,
        mantissa_bits,
        min_exponent,
        has_subnormals,
        max_code,
        overflow,
        nan_code,
        sign_bit,
        codes,
        random_bits,
        width,
        seed,
        operand,
        step,
        site,
        offset,
    ):
        per_block = 128 // width
        per_word = 32 // width
        mask = (int64(1) << random_bits) - 1
        nans = 0
        for row in numba.prange((x.size + inner - 1) // inner):
            channel = row % inv.size
            for i in range(row * inner, min((row + 1) * inner, x.size)):
                y = float64(x[i] * inv[channel])
                random = int64(0)
                if mode == _STOCHASTIC:
                    block = (offset + i) // per_block
                    place = (offset + i) - block * per_block
                    word = _philox(block, step, site, seed, operand)[place // per_word]
                    random = int64(word >> uint64((place % per_word) * width)) & mask
                if math.isnan(y):
                    nans += 1
                    codes[i] = nan_code
                    continue
                negative = math.copysign(1.0, y) < 0
                sign = sign_bit if negative else int64(0)
                if math.isinf(y):
                    codes[i] = sign | overflow
                    continue
                code = _float_magnitude(
                    abs(y),
                    mantissa_bits,
                    min_exponent,
                    has_subnormals,
                    negative_mode if negative else mode,
                    random,
                    random_bits,
                )
                if code > max_code:
                    down = negative_rounds_down if negative else rounds_down
                    code = max_code if down else int64(overflow)
                codes[i] = sign | code
        return nans

    return kernel


_float_kernel = functools.cache(_float_kernel)


def quantize_to_floats(
    x: np.ndarray,
    inv: np.ndarray,
    inner: int,
    fmt: FloatFormat,
    rounding: Rounding,
    stream: Stream | None,
    codes: np.ndarray,
) -> int:
    """Fill `codes` with the codes of x * inv; the twin of `reference.float_code`.

    Args:
        x: float32 [n]; where the format has no NaN, the codes of NaNs mean nothing.
        inv: float32 [channels].
        inner: Run length of a channel, as in `quantize_to_integers`.
        fmt: The format.
        rounding: Mode and overflow.
        stream: Address of the random bits; needed for stochastic rounding only.
        codes: Integer [n], written.

    Returns:
        The number of NaNs in x.
    """
    match_torch_threads(x.size // ROW_ELEMENTS)
    address = _address(stream) if stream is not None else (0, 0, 0, 0, 0)
    width, overflow = draw_width(rounding.random_bits), overflow_code(fmt, rounding)
    if float_lanes.fits(fmt, rounding):
        return float_lanes.quantize(x, inv, inner, fmt, rounding, overflow, width, address, codes)
    return _float_kernel(MODE_CODES[rounding.mode])(
        x,
        inv,
        inner,
        fmt.mantissa_bits,
        fmt.min_exponent,
        fmt.has_subnormals,
        fmt.max_code,
        overflow,
        -1 if fmt.nan_code is None else fmt.nan_code,
        1 << (fmt.bits - 1),
        codes,
        rounding.random_bits,
        width,
        *address,
    )
