"""Published approximate multipliers, computed from their algorithm.

| function   | circuit                                                          | worst relative error    |
|------------|------------------------------------------------------------------|-------------------------|
| `mitchell` | adds linear approximations of the logarithms of the operands     | 1/9 (11.1 %), low       |
| `drum`     | multiplies the k leading bits, the last of them set to 1         | (1 + 2^(1-k))^2 - 1     |
| `kulkarni` | 2 x 2 blocks that say 3 x 3 = 7, added up exactly                | 2/9 (22.2 %), low       |

Sources: J. N. Mitchell, "Computer multiplication and division using binary logarithms", IRE Trans. Electronic
Computers EC-11, 1962; S. Hashemi, R. I. Bahar, S. Reda, "DRUM: a dynamic range unbiased multiplier for approximate
applications", ICCAD 2015; P. Kulkarni, P. Gupta, M. Ercegovac, "Trading accuracy for power with an underdesigned
multiplier architecture", VLSI Design 2011.

All three are circuits for unsigned numbers; for signed codes they multiply magnitudes and the sign is put back (the
magnitude 2^(bits-1) has a place in `bits` bits).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from lowbit_sim.arith.products import MAX_TABLE_BITS, ProductTable
from lowbit_sim.numerics.whole import is_whole


def _leading_one(x: np.ndarray) -> np.ndarray:
    """floor(log2 x), and 0 of 0; exact for x below 2^53."""
    return np.maximum(np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1, 0)


def mitchell(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Products by adding logarithms, log2(2^k (1 + f)) taken for k + f, with all fraction bits kept.

    With f + g < 1 the sum stands for 2^(k+l) (1 + f + g), else for 2^(k+l+1) (f + g): whole numbers, as f 2^k is one.

    Args:
        x: int64 magnitudes below 2^30.
        y: The same.
    """
    k, l = _leading_one(x), _leading_one(y)  # noqa: E741
    one = np.int64(1) << (k + l)
    fractions = ((x - (np.int64(1) << k)) << l) + ((y - (np.int64(1) << l)) << k)
    product = np.where(fractions < one, one + fractions, 2 * fractions)
    return np.where((x == 0) | (y == 0), 0, product)


def drum(x: np.ndarray, y: np.ndarray, leading_bits: int) -> np.ndarray:
    """Products of the operands' `leading_bits` bits from the leading one on.

    The last bit kept is set to 1 where lower ones are dropped, which makes the error's mean vanish; an operand of no
    more than `leading_bits` bits is taken as it is.

    Args:
        x: int64 magnitudes below 2^30.
        y: The same.
        leading_bits: Bits that reach the multiplier, the paper's k.
    """

    def shorten(v: np.ndarray) -> np.ndarray:
        dropped = np.maximum(_leading_one(v) - leading_bits + 1, 0)
        return np.where(dropped > 0, ((v >> dropped) | 1) << dropped, v)

    return shorten(x) * shorten(y)


def kulkarni(x: np.ndarray, y: np.ndarray, bits: int) -> np.ndarray:
    """Products from 2 x 2 blocks, exact but for 3 x 3 = 7, whose partial products are added exactly.

    Args:
        x: int64 magnitudes below 2^bits.
        y: The same.
        bits: Width of the operands, a power of two from 2 on.
    """
    if bits == 2:
        return x * y - 2 * ((x == 3) & (y == 3))
    half = bits // 2
    mask = (1 << half) - 1
    (x1, x0), (y1, y0) = (x >> half, x & mask), (y >> half, y & mask)
    upper = kulkarni(x1, y1, half)
    middle = kulkarni(x1, y0, half) + kulkarni(x0, y1, half)
    lower = kulkarni(x0, y0, half)
    return (upper << bits) + (middle << half) + lower


def _tabulate(
    name: str,
    source: str,
    bits: int,
    signed: bool,
    multiply: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> ProductTable:
    """The table of a multiplier of magnitudes, with the sign put back."""
    codes = np.arange(1 << bits, dtype=np.int64)
    if signed:
        codes -= (codes >> (bits - 1)) << bits
    x, y = np.meshgrid(codes, codes, indexing="ij")
    table = np.sign(x) * np.sign(y) * multiply(np.abs(x), np.abs(y))
    return ProductTable(bits=bits, signed=signed, table=table, name=name, source=source)


def _check_bits(bits: int) -> None:
    if not is_whole(bits, 2, MAX_TABLE_BITS):
        raise ValueError(
            f"an approximate multiplier has codes of 2 to {MAX_TABLE_BITS} bits, got bits={bits}"
        )


@functools.cache
def mitchell_multiplier(bits: int = 8, *, signed: bool = True) -> ProductTable:
    """Mitchell's logarithmic multiplier, as a table.

    Args:
        bits: Width of both codes, 2 to 10.
        signed: Two's complement codes, multiplied as sign and magnitude.

    Raises:
        ValueError: Another width.
    """
    _check_bits(bits)
    source = "J. N. Mitchell, IRE Trans. Electronic Computers, 1962"
    return _tabulate("mitchell", source, bits, signed, mitchell)


@functools.cache
def drum_multiplier(bits: int = 8, leading_bits: int = 4, *, signed: bool = True) -> ProductTable:
    """The dynamic range unbiased multiplier DRUM, as a table.

    Args:
        bits: Width of both codes, 2 to 10.
        leading_bits: Bits of each operand that are multiplied, the paper's k, 2 to `bits`; `bits` is exact.
        signed: Two's complement codes, multiplied as sign and magnitude.

    Raises:
        ValueError: Another width or number of leading bits.
    """
    _check_bits(bits)
    if not is_whole(leading_bits, 2, bits):
        raise ValueError(f"DRUM keeps 2 to bits={bits} leading bits, got leading_bits={leading_bits}")
    source = "S. Hashemi, R. I. Bahar, S. Reda, ICCAD 2015"
    multiply = functools.partial(drum, leading_bits=leading_bits)
    return _tabulate(f"drum{leading_bits}", source, bits, signed, multiply)


@functools.cache
def kulkarni_multiplier(bits: int = 8, *, signed: bool = True) -> ProductTable:
    """Kulkarni's underdesigned multiplier, as a table.

    Args:
        bits: Width of both codes: 2, 4 or 8.
        signed: Two's complement codes, multiplied as sign and magnitude.

    Raises:
        ValueError: Another width.
    """
    if bits not in (2, 4, 8):
        raise ValueError(f"Kulkarni's multiplier halves its width down to 2: bits is 2, 4 or 8, got {bits}")
    source = "P. Kulkarni, P. Gupta, M. Ercegovac, VLSI Design 2011"
    return _tabulate("kulkarni", source, bits, signed, functools.partial(kulkarni, bits=bits))
