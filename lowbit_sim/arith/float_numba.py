"""The floating-point accumulator, compiled: the twin of `float_reference` for when additions round.

Float32 sums to nearest even, in sequence and of products that are float32 values, are the processor's own; all
else takes a kernel that rounds in integers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream, draw_width
from lowbit_sim.numerics.reference import overflow_code
from lowbit_sim.numerics.rounding import Rounding, RoundingMode

NAME = "numba_cpu"

#: Accumulators that one task holds.
BLOCK = 512

#: Products that a task holds at once for a tree, and its fewest accumulators.
_TREE_TERMS = 1 << 16
_SMALLEST_BLOCK = 16

#: Multiply-accumulates that make another thread worth starting.
_MACS_PER_THREAD = 1 << 15

#: (h, d, even) of `float_kernel` for positive numbers, then for negative ones.
_NEAREST_EVEN, _NEAREST_AWAY, _TO_ZERO, _FROM_ZERO = (1, 1, 1), (1, 0, 0), (0, 0, 0), (2, 1, 0)
MODES: dict[str, tuple[int, ...]] = {
    RoundingMode.NEAREST_EVEN: _NEAREST_EVEN + _NEAREST_EVEN,
    RoundingMode.NEAREST_AWAY: _NEAREST_AWAY + _NEAREST_AWAY,
    RoundingMode.TOWARD_ZERO: _TO_ZERO + _TO_ZERO,
    RoundingMode.DOWN: _TO_ZERO + _FROM_ZERO,
    RoundingMode.UP: _FROM_ZERO + _TO_ZERO,
    # Only for the exact zeros, which are as to nearest.
    RoundingMode.STOCHASTIC: _NEAREST_EVEN + _NEAREST_EVEN,
}


def why_not(mac: FloatMacUnit, a: Tensor, b: Tensor) -> str | None:
    """None, or why the compiled accumulator can't run."""
    if a.device.type != "cpu":
        return f"runs on the CPU, the operands are on {a.device}"
    return None


def kernel_format(fmt: FloatFormat | None, rounding: Rounding) -> tuple[int, int, int, float, float, int]:
    """A format as `float_kernel` takes it; -1 mantissa bits for none."""
    if fmt is None:
        return -1, 0, 0, 0.0, 0.0, 0
    code = overflow_code(fmt, rounding)
    beyond = fmt.max_value if code == fmt.max_code else np.inf if code == fmt.infinity_code else np.nan
    below = fmt.mantissa_bits if fmt.has_subnormals else 0
    has_nan = int(fmt.nan_code is not None)
    return fmt.mantissa_bits, fmt.min_exponent, below, float(fmt.max_value), beyond, has_nan


def _is_float32(fmt: FloatFormat) -> bool:
    return (fmt.exponent_bits, fmt.mantissa_bits, fmt.bias) == (8, 23, 127) and fmt.has_subnormals


def _extent(x: Tensor) -> tuple[int, int, float]:
    """The most significant bits of an element, the smallest exponent of a last place, and the largest magnitude.

    From the bits of float32: all elements' fractions at once show how many places are used; the magnitudes order
    as integers do, NaN above infinity.
    """
    bits = x.contiguous().numpy().view(np.int32)
    used = int(np.bitwise_or.reduce(bits, axis=None)) & 0x7FFFFF | 1 << 23
    significant = 24 - ((used & -used).bit_length() - 1)
    magnitudes = (bits & 0x7FFFFFFF).view(np.uint32)
    largest = float(magnitudes.max().view(np.float32))
    # Less one, zeros wrap round to the largest number and leave the smallest magnitude that is not zero.
    magnitudes -= np.uint32(1)
    smallest_field = (int(magnitudes.min()) + 1 & 0x7FFFFFFF) >> 23
    return significant, max(smallest_field, 1) - 127 - (significant - 1), largest


def _fits_float32(mac: FloatMacUnit, a: Tensor, b: Tensor) -> bool:
    """Whether the processor's own float32 product and addition have the accumulator's bits.

    Each product is a float32 if its significant bits are at most 24 and its last place is at least 2^-149; no sum
    overflows if K max|a| max|b| <= 2^126, as fewer than 2^21 roundings, each by at most 2^-24 of the sum, enlarge
    it by less than a fifth.
    """
    if mac.kahan or mac.order == "tree" or mac.product is not None:
        return False
    if mac.rounding.mode != RoundingMode.NEAREST_EVEN:
        return False
    if not (_is_float32(mac.accumulator) and _is_float32(mac.result_format)):
        return False
    if not (a.numel() and b.numel()) or a.shape[1] >= 1 << 20:
        return False
    (bits_a, last_a, largest_a), (bits_b, last_b, largest_b) = _extent(a), _extent(b)
    if not a.shape[1] * largest_a * largest_b <= 2.0**126:  # NaN too
        return False
    # A power of two has one bit, which widens no product.
    bits = bits_a + bits_b - (1 in (bits_a, bits_b))
    return bits <= 24 and last_a + last_b >= -149


def run(mac: FloatMacUnit, a: Tensor, b: Tensor, stream: Stream | None) -> GemmResult:
    """a [M, K] times b [K, N]."""
    # a b = (b^T a^T)^T, and products commute: the long side becomes the contiguous row of accumulators.
    transposed = a.shape[0] > b.shape[1]
    left, right = (b.t(), a.t()) if transposed else (a, b)
    left, right = left.contiguous().numpy(), right.contiguous().numpy()
    out = np.zeros((left.shape[0], right.shape[1]), dtype=np.float32)
    float32 = _fits_float32(mac, a, b)
    if float32:
        counts = _in_float32(mac, left, right, out)
    else:
        counts = _accumulate(mac, left, right, stream, transposed, out)
    overflowed, swamped, impossible = (int(c) for c in counts[:3])
    if impossible:
        raise ValueError(f"{impossible} sums are NaN, which a format of this unit has no code for: {mac}")
    return GemmResult(
        values=torch.from_numpy(np.ascontiguousarray(out.T if transposed else out)),
        overflows=overflowed,
        swamped=swamped,
        backend=NAME,
        why="float32 arithmetic, as every product is a float32"
        if float32
        else "a rounding for each addition",
    )


def _threads(out: np.ndarray, reduction: int) -> None:
    from lowbit_sim.numerics.threads import match_torch_threads

    match_torch_threads(out.size * reduction // _MACS_PER_THREAD)


def _in_float32(mac: FloatMacUnit, left: np.ndarray, right: np.ndarray, out: np.ndarray) -> np.ndarray:
    from lowbit_sim.arith.float_kernel import in_float32

    swamped = np.zeros(left.shape[0] * -(-right.shape[1] // BLOCK), dtype=np.int64)
    _threads(out, left.shape[1])
    in_float32(left, right, mac.chunk_length(left.shape[1]), mac.has_outer, BLOCK, out, swamped)
    return np.array([0, swamped.sum(), 0])


def _accumulate(
    mac: FloatMacUnit,
    left: np.ndarray,
    right: np.ndarray,
    stream: Stream | None,
    transposed: bool,
    out: np.ndarray,
) -> np.ndarray:
    from lowbit_sim.arith.float_kernel import accumulate

    reduction = left.shape[1]
    chunk = mac.chunk_length(reduction)
    tree = mac.order == "tree"
    block = max(_SMALLEST_BLOCK, min(BLOCK, _TREE_TERMS // min(chunk, max(reduction, 1)))) if tree else BLOCK
    counts = np.zeros((left.shape[0] * -(-right.shape[1] // block), 4), dtype=np.int64)
    if not (out.size and reduction):
        return counts.sum(0)
    per_result = mac.additions(reduction)
    # Result (m, n) draws from element (m N + n) per_result on, whichever way round the product is computed.
    strides = (1, left.shape[0]) if transposed else (right.shape[1], 1)
    offset = stream.offset if stream else 0
    _threads(out, reduction)
    accumulate(
        left,
        right,
        chunk,
        (
            kernel_format(mac.accumulator, mac.rounding),
            kernel_format(mac.result_format, mac.rounding),
            kernel_format(mac.product, mac.rounding_of_products),
        ),
        (MODES[mac.rounding.mode], MODES[mac.rounding_of_products.mode]),
        (mac.has_outer, tree, mac.kahan),
        block,
        kernel_draws(mac.rounding, stream),
        (offset, strides[0] * per_result, strides[1] * per_result),
        out,
        counts,
    )
    return counts.sum(0)


def kernel_draws(rounding: Rounding, stream: Stream | None) -> tuple[int, ...]:
    """Random bits and their address as `float_kernel` takes them; 0 bits where none are drawn."""
    bits = rounding.random_bits
    s = stream or Stream(seed=0)
    return bits, draw_width(bits), s.seed, s.operand, s.step, s.site
