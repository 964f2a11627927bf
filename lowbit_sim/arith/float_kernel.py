"""The loops of a floating-point accumulator, compiled. Importing this module imports numba.

One rounding of an exact sum. x and y are each an accumulator's value or a product of two float32 values: at most
48 significant bits, exponents -298 to 257. In float64

    s = fl(x + y),  e = x + y - s exactly       (TwoSum, Knuth; nothing here over- or underflows in float64)

and s is then *rounded to odd*: if e is not 0 and the last bit of s is 0, s moves one unit in the last place
towards e. What comes out, o, is x + y itself where float64 holds that, else the one of its two float64 neighbours
whose last bit is 1. Rounding o into the format equals rounding x + y (Boldo & Melquiond, "Emulation of a FMA and
correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008): every number
t at which a rounding changes its mind - values of the format with an unlimited exponent, midpoints between them,
and, with r random bits, the 2^r - 1 numbers in between - has at most m + 1 + r <= 51 significant bits, as have the
sparser ones below the smallest normal number. So t is a float64 whose last bit is 0; x + y < t gives o <= t, and
o is not t, as o is then odd or x + y itself; likewise for >. So o and x + y compare alike with every t.
Overflow is decided from the rounded value, after rounding with an unlimited exponent: o decides it alike.

The significand of o is an integer of 53 bits. With `shift` of its bits below the format's last place, a mode is

    (significand + (h 2^(shift-1)) - d + even (significand >> shift & 1)) >> shift

| on the magnitude | nearest even | nearest away | toward zero | away from zero |
|------------------|--------------|--------------|-------------|----------------|
| h, d, even       | 1, 1, 1      | 1, 0, 0      | 0, 0, 0     | 2, 1, 0        |

and stochastic rounding ((significand >> (shift - r)) + R) >> r. "down" and "up" are the last two columns, by sign.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import float64, int64, uint64

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.kernels import _philox
from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_FRACTION = np.int64((1 << 52) - 1)
_ONE = np.int64(1 << 52)


@numba.njit(forceinline=True)
def _finish(kept, last, negative, rounds_down, fmt):
    """kept 2^last with its sign, or what the format has beyond its largest value; and whether it is beyond."""
    value = float64(kept) * np.int64((last + 1023) << 52).view(np.float64)
    beyond = value > fmt[3]
    if beyond:
        value = fmt[3] if rounds_down else fmt[4]
    return (-value if negative else value), beyond


@numba.njit(forceinline=True)
def _round_to_odd(s, e):
    """The bits of s + e as a float64 rounded to odd; s is finite and not zero."""
    bits = np.float64(s).view(np.int64)
    step = int64(1) if (e > 0.0) == (s > 0.0) else int64(-1)
    return bits + step if e != 0.0 and bits & 1 == 0 else bits


@numba.njit(forceinline=True)
def _places(bits, fmt):
    """Significand, how many of its bits are below the format's last place, and that place's exponent."""
    magnitude = bits & _MAGNITUDE
    exponent = (magnitude >> 52) - 1023
    below = max(fmt[1] - exponent, int64(0))
    mantissa_bits = fmt[2] if below > 0 else fmt[0]
    return (magnitude & _FRACTION) | _ONE, 52 - mantissa_bits + below, exponent + below - mantissa_bits


@numba.njit(forceinline=True)
def _round_sum(s, e, fmt, mode):
    """s + e rounded into a format, s finite and not zero; and whether it overflowed.

    fmt is (mantissa bits, smallest exponent, mantissa bits below it, largest value, value of an overflow,
    has NaN), mode is (h, d, even) of positive numbers, then of negative ones.
    """
    significand, shift, last = _places(_round_to_odd(s, e), fmt)
    shift = min(shift, int64(60))
    negative = s < 0.0
    h, d, even = (mode[3], mode[4], mode[5]) if negative else (mode[0], mode[1], mode[2])
    kept = (significand + (h << (shift - 1)) - d + (even & (significand >> shift))) >> shift
    return _finish(kept, last, negative, h == 0, fmt)


@numba.njit(forceinline=True)
def _round_sum_randomly(s, e, fmt, random, random_bits):
    """`_round_sum` with a random integer of `random_bits` bits."""
    significand, shift, last = _places(_round_to_odd(s, e), fmt)
    kept = ((significand >> min(shift - random_bits, int64(63))) + random) >> random_bits
    return _finish(kept, last, s < 0.0, False, fmt)


@numba.njit(forceinline=True)
def _special(s, x, y, fmt, mode):
    """A sum that is zero, infinite or NaN, in the format."""
    if s == 0.0:
        # Opposite signs, mode "down": the magnitude of negative numbers is rounded away from zero, h = 2.
        opposite = math.copysign(1.0, x) != math.copysign(1.0, y)
        return -0.0 if opposite and mode[3] == 2 and mode[0] == 0 else s
    return math.copysign(fmt[4], s) if math.isinf(s) else s


@numba.njit(forceinline=True)
def _error(s, x, y):
    """x + y - s, exactly."""
    rest = s - x
    return (x - (s - rest)) + (y - rest)


@numba.njit(forceinline=True)
def _add(x, y, fmt, mode):
    """x + y rounded once; whether it overflowed, lost an operand, or is a NaN that the format has not."""
    s = x + y
    if s == 0.0 or not math.isfinite(s):
        return _special(s, x, y, fmt, mode), False, False, math.isnan(s) and fmt[5] == 0
    total, beyond = _round_sum(s, _error(s, x, y), fmt, mode)
    lost = (total == x and y != 0.0) or (total == y and x != 0.0)
    return total, beyond, lost and not beyond, False


@numba.njit(forceinline=True)
def _add_randomly(x, y, fmt, mode, random, random_bits):
    """`_add` with a random integer."""
    s = x + y
    if s == 0.0 or not math.isfinite(s):
        return _special(s, x, y, fmt, mode), False, False, math.isnan(s) and fmt[5] == 0
    total, beyond = _round_sum_randomly(s, _error(s, x, y), fmt, random, random_bits)
    lost = (total == x and y != 0.0) or (total == y and x != 0.0)
    return total, beyond, lost and not beyond, False


@numba.njit(forceinline=True)
def _round_product(p, fmt, mode):
    """A product in its own format, and whether it is a NaN that the format has not."""
    if p == 0.0 or not math.isfinite(p):
        return (math.copysign(fmt[4], p) if math.isinf(p) else p), math.isnan(p) and fmt[5] == 0
    return _round_sum(p, 0.0, fmt, mode)[0], False


@numba.njit
def add_rows(x, y, fmt, mode, randoms, random_bits, counts):
    """x += y, each element rounded once; adds overflows, swamped additions and impossible NaN to counts [3].

    randoms holds the random integers where `random_bits` is not 0.
    """
    beyonds = losses = impossibles = 0
    if random_bits == 0:
        for j in range(x.size):
            x[j], beyond, lost, impossible = _add(x[j], y[j], fmt, mode)
            beyonds += int64(beyond)
            losses += int64(lost)
            impossibles += int64(impossible)
    else:
        for j in range(x.size):
            x[j], beyond, lost, impossible = _add_randomly(x[j], y[j], fmt, mode, randoms[j], random_bits)
            beyonds += int64(beyond)
            losses += int64(lost)
            impossibles += int64(impossible)
    counts[0] += beyonds
    counts[1] += losses
    counts[2] += impossibles


@numba.njit
def _draw_rows(elements, step, draws, words, randoms):
    """The random integers of the next addition of a row of results: elements [width] of the stream, += 1.

    words [width, 4] keeps each result's block of Philox from one addition to the next.
    """
    random_bits, width, seed, operand, training_step, site = draws
    per_block = 128 // width
    per_word = 32 // width
    mask = (int64(1) << random_bits) - 1
    for j in range(elements.size):
        block = elements[j] // per_block
        place = elements[j] - block * per_block
        if place == 0 or step == 0:
            words[j, 0], words[j, 1], words[j, 2], words[j, 3] = _philox(
                block, training_step, site, seed, operand
            )
        word = words[j, place // per_word] >> uint64((place % per_word) * width)
        randoms[j] = int64(word) & mask
        elements[j] += 1


@numba.njit
def _step(x, y, fmt, mode, draws, random):
    """x += y of a row of accumulators, with the next random integers."""
    elements, words, randoms, counts = random
    if draws[0]:
        _draw_rows(elements, counts[3], draws, words, randoms)
    add_rows(x, y, fmt, mode, randoms, draws[0], counts)
    counts[3] += 1


@numba.njit
def _compensated(total, correction, term, scratch, fmt, mode, draws, random):
    """One term of Kahan's summation; `correction` holds -c, and `term` is overwritten."""
    _step(term, correction, fmt, mode, draws, random)  # y = term - c
    scratch[:] = total
    _step(total, term, fmt, mode, draws, random)  # t = sum + y
    correction[:] = total
    for j in range(scratch.size):
        scratch[j] = -scratch[j]
        term[j] = -term[j]
    _step(correction, scratch, fmt, mode, draws, random)  # t - sum
    _step(correction, term, fmt, mode, draws, random)  # (t - sum) - y
    for j in range(correction.size):
        correction[j] = -correction[j]


@numba.njit
def _products(multiplier, row, terms, fmt, mode, counts):
    """terms = multiplier row, exact or rounded to the products' format."""
    scalar = float64(multiplier)
    for j in range(terms.size):
        terms[j] = scalar * float64(row[j])
    if fmt[0] < 0:
        return
    impossibles = 0
    for j in range(terms.size):
        terms[j], impossible = _round_product(terms[j], fmt, mode)
        impossibles += int64(impossible)
    counts[2] += impossibles


@numba.njit
def _add_up_tree(terms, count, fmt, mode, draws, random):
    """The tree's root into terms[0]. A node lies where its left leaf lay, so an odd one moves up by staying."""
    stride = 1
    while stride < count:
        for t in range(0, count - stride, 2 * stride):
            _step(terms[t], terms[t + stride], fmt, mode, draws, random)
        stride *= 2


@cached(parallel=True)
def accumulate(a, b, chunk, formats, modes, rules, block, draws, strides, out, counts):
    """a [M, K] times b [K, N] with a row of accumulators along the columns of b.

    formats are (inner, outer, product), modes (additions, products), rules (has outer, tree, kahan). draws is
    (random bits or 0, bits drawn, seed, operand, step, site), strides (first element, elements from row to row and
    from column to column). counts [tasks, 4] receives overflows, swamped additions and impossible NaN, and how
    many additions each result took.
    """
    rows, reduction = a.shape
    columns = b.shape[1]
    blocks = (columns + block - 1) // block
    inner_fmt, outer_fmt, product_fmt = formats
    mode, product_mode = modes
    has_outer, tree, kahan = rules
    for task in numba.prange(rows * blocks):
        i = task // blocks
        first = (task % blocks) * block
        width = min(block, columns - first)
        inner, outer, scratch = np.zeros(width), np.zeros(width), np.empty(width)
        inner_correction, outer_correction = np.empty(width), np.full(width, -0.0)
        terms = np.empty((min(chunk, reduction) if tree else 1, width))
        elements = strides[0] + i * strides[1] + np.arange(first, first + width) * strides[2]
        random = (
            elements,
            np.empty((width, 4), dtype=np.uint64),
            np.empty(width, dtype=np.int64),
            counts[task],
        )
        for start in range(0, reduction, chunk):
            inner[:] = 0.0
            inner_correction[:] = -0.0
            length = min(chunk, reduction - start)
            for k in range(length):
                row = b[start + k, first : first + width]
                term = terms[k if tree else 0]
                _products(a[i, start + k], row, term, product_fmt, product_mode, counts[task])
                if kahan:
                    _compensated(inner, inner_correction, term, scratch, inner_fmt, mode, draws, random)
                elif not tree:
                    _step(inner, term, inner_fmt, mode, draws, random)
            if tree:
                _add_up_tree(terms, length, inner_fmt, mode, draws, random)
                _step(inner, terms[0], inner_fmt, mode, draws, random)
            if not has_outer:
                outer[:] = inner
            elif kahan:
                _compensated(outer, outer_correction, inner, scratch, outer_fmt, mode, draws, random)
            else:
                _step(outer, inner, outer_fmt, mode, draws, random)
        out[i, first : first + width] = outer
