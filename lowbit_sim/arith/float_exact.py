"""The library product in place of a floating-point accumulator, where no addition rounds.

Let every element of a be a whole multiple of 2^e_a and of b of 2^e_b. Then every product and every partial sum
is n 2^(e_a + e_b) with a whole n, and such a number is a value of a format with m mantissa bits if

    |n| < 2^(m+1),  |n| 2^(e_a + e_b) <= the format's largest value,  2^(e_a + e_b) >= its smallest spacing.

`bounds.py` bounds |n| for any order of summation. Where that fits, no addition rounds in any mode, whatever the
order, and compensated summation compensates nothing: the sum is the integer product, scaled. Exact zeros are
then +0, but for mode "down", whose zeros' signs depend on the order: it is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.backends.torch_exact import exact_product
from lowbit_sim.arith.bounds import MAX_OPERAND, find_unproven, magnitude
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import Extent
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import RoundingMode

NAME = "torch_exact"

#: Why there is no proof for operands with too many places.
NOT_WHOLE = f"an operand is not whole multiples, up to {MAX_OPERAND}, of a power of two"

#: Rows, columns and products of each that `_hopeless` looks at.
_SAMPLES = 8
_SAMPLE_LENGTH = 2048

#: Above what the float64 norms of a sample may err by.
_MARGIN = 1.0 + 2.0**-20

#: The narrowest integer accumulator of `bounds.py` stands for this many mantissa bits.
_FEWEST_MANTISSA_BITS = 6


def whole_multiples(x: Tensor) -> tuple[Tensor, int] | None:
    """Integers n and an exponent e with x = n 2^e and |n| <= 65535, or None where there are none.

    n is int8 where it fits, else int32. e is the largest possible.
    """
    largest = float(x.abs().amax()) if x.numel() else 0.0
    if not math.isfinite(largest):
        return None
    if largest == 0.0:
        return torch.zeros_like(x, dtype=torch.int8), 0
    # largest < 2^frexp, so that n has at most as many bits as MAX_OPERAND.
    shift = MAX_OPERAND.bit_length() - math.frexp(largest)[1]
    scaled = x.to(torch.float64) * 2.0**shift
    whole = scaled.to(torch.int32)
    if not torch.equal(whole.to(torch.float64), scaled):
        return None
    zeros, used = _used_bits(whole)
    whole >>= zeros
    return (whole.to(torch.int8) if used >> zeros <= 127 else whole), zeros - shift


def _used_bits(whole: Tensor) -> tuple[int, int]:
    """Trailing zeros that all elements share, and a number with as many bits as the largest magnitude."""
    if whole.device.type != "cpu":
        return used_bits_on_device(whole)
    used = int(np.bitwise_or.reduce(whole.abs().numpy(), axis=None))
    return (used & -used).bit_length() - 1, used


def used_bits_on_device(whole: Tensor) -> tuple[int, int]:
    """`_used_bits` by torch's reductions; the device is waited for once."""
    # The lowest bit set in any element is the smallest of the elements' lowest bits; a zero has none.
    magnitude = whole.abs()
    lowest = torch.where(magnitude == 0, 1 << 30, magnitude & -magnitude).amin()
    lowest, largest = torch.stack([lowest, magnitude.amax()]).tolist()
    return lowest.bit_length() - 1, largest


@dataclass(frozen=True, kw_only=True)
class Proof:
    """That no addition rounds: a and b are `left` and `right` times powers of two.

    Attributes:
        left: Integers [M, K].
        right: Integers [K, N].
        exponent: a @ b = 2^exponent (left @ right).
        why: The proof in words.
    """

    left: Tensor
    right: Tensor
    exponent: int
    why: str


def prove(
    mac: FloatMacUnit, a: Tensor, b: Tensor, extents: tuple[Extent, Extent] | None = None
) -> Proof | str:
    """The proof that no addition rounds, or the reason why one may.

    Args:
        mac: The multiply-accumulate unit.
        a: float32 [M, K].
        b: float32 [K, N].
        extents: Of a and b, where they are known; a few rows and columns then tell in most cases that there is none.
    """
    if mac.rounding.mode == RoundingMode.DOWN:
        return "mode 'down' gives zeros signs that depend on the order"
    if min(mac.accumulator.mantissa_bits, mac.result_format.mantissa_bits) < _FEWEST_MANTISSA_BITS:
        return f"accumulators of fewer than {_FEWEST_MANTISSA_BITS} mantissa bits have no proof"
    hopeless = _hopeless(mac, a, b, extents) if extents else None
    if hopeless:
        return hopeless
    if extents:
        left, right = (_codes(x, extent) for x, extent in zip((a, b), extents, strict=True))
    else:
        left, right = whole_multiples(a), whole_multiples(b)
    if left is None or right is None:
        return NOT_WHOLE
    (left_codes, left_exponent), (right_codes, right_exponent) = left, right
    exponent = left_exponent + right_exponent
    reason = _out_of_range(mac, a, b, exponent) or _rounds_products(mac, left_codes, right_codes, exponent)
    if reason:
        return reason
    unproven = find_unproven(_integer_unit(mac), left_codes, right_codes)
    if not unproven.empty:
        return f"{unproven.why}, in units of 2^{exponent}"
    why = f"no addition rounds: {unproven.why} in units of 2^{exponent}"
    return Proof(left=left_codes, right=right_codes, exponent=exponent, why=why)


def _codes(x: Tensor, extent: Extent) -> tuple[Tensor, int] | None:
    """`whole_multiples`, without another look at the elements."""
    if not extent.whole:
        return None
    if extent.largest == 0.0:
        return torch.zeros_like(x, dtype=torch.int8), 0
    scale = 2.0**-extent.last
    numbers = x if abs(extent.last) <= 126 else x.to(torch.float64)
    return (numbers * scale).to(torch.int8 if extent.largest * scale <= 127 else torch.int32), extent.last


def _hopeless(mac: FloatMacUnit, a: Tensor, b: Tensor, extents: tuple[Extent, Extent]) -> str | None:
    """Why no bound of `bounds.py` can cover all sums, seen from a few: each is at least what it is of fewer terms."""
    if not (extents[0].whole and extents[1].whole):
        return NOT_WHOLE
    if not (a.numel() and b.numel()):
        return None
    exponent = extents[0].last + extents[1].last
    limit = 2.0 ** (mac.accumulator.mantissa_bits + 1 + exponent)
    bound = extents[0].largest * extents[1].largest
    if bound <= limit:
        length = min(mac.chunk_length(a.shape[1]), _SAMPLE_LENGTH)
        rows = _sample_norms(a[:: -(-a.shape[0] // _SAMPLES), :length])
        columns = _sample_norms(b[:length, :: -(-b.shape[1] // _SAMPLES)].t())
        # L2 with L2, L1 with the other side's maximum: [3, rows, columns].
        bound = float((rows[:, :, None] * columns[[0, 2, 1], None, :]).amin(0).amax())
    if bound <= limit * _MARGIN:
        return None
    return f"no bound covers a sum of up to {bound:.4g}, in units of 2^{exponent}"


def _sample_norms(x: Tensor) -> Tensor:
    """L2, L1 and maximum of each row, float64 [3, n]."""
    magnitudes = x.to(torch.float64).abs()
    return torch.stack([magnitudes.square().sum(1).sqrt(), magnitudes.sum(1), magnitudes.amax(1)])


def _integer_unit(mac: FloatMacUnit) -> MacUnit:
    """The integer unit whose accumulators hold |n| < 2^(m+1): it overflows where a float one may round."""
    return MacUnit(
        accumulator_bits=mac.accumulator.mantissa_bits + 2,
        outer_bits=mac.result_format.mantissa_bits + 2,
        chunk=mac.chunk,
    )


def why_not(mac: FloatMacUnit, a: Tensor, b: Tensor) -> str | None:
    """None if no addition can round, else the reason why one may."""
    proof = prove(mac, a, b)
    return proof if isinstance(proof, str) else None


def _spacing_exponent(fmt: FloatFormat) -> int:
    return fmt.min_exponent - (fmt.mantissa_bits if fmt.has_subnormals else 0)


def _out_of_range(mac: FloatMacUnit, a: Tensor, b: Tensor, exponent: int) -> str | None:
    """Why a sum may leave the exponent range of an accumulator."""
    if not (a.numel() and b.numel()):
        return None
    bound = a.shape[1] * float(a.abs().amax()) * float(b.abs().amax())
    for fmt in (mac.accumulator, mac.result_format):
        if exponent < _spacing_exponent(fmt):
            return f"products in units of 2^{exponent} are finer than {fmt} can hold"
        if bound > fmt.max_value:
            return f"sums of up to {bound:.4g} may leave {fmt}, which ends at {fmt.max_value:.4g}"
    return None


def _rounds_products(mac: FloatMacUnit, a: Tensor, b: Tensor, exponent: int) -> str | None:
    """Why a product may round where it has a format of its own."""
    fmt = mac.product
    if fmt is None:
        return None
    largest = magnitude(a) * magnitude(b)
    fits = largest < 2 << fmt.mantissa_bits and largest * 2.0**exponent <= fmt.max_value
    if fits and exponent >= _spacing_exponent(fmt):
        return None
    return f"products of up to {largest} units of 2^{exponent} may round in {fmt}"


def proven(proof: Proof) -> GemmResult:
    """The integer product, scaled: float64 holds it, and so does the accumulator's format."""
    product = exact_product(proof.left, proof.right).to(torch.float64) * 2.0**proof.exponent
    return GemmResult(values=product.to(torch.float32), overflows=0, swamped=0, backend=NAME, why=proof.why)


def run(mac: FloatMacUnit, a: Tensor, b: Tensor, stream: Stream | None) -> GemmResult:
    """a [M, K] times b [K, N], given that `why_not` is None."""
    proof = prove(mac, a, b)
    if isinstance(proof, str):
        raise ValueError(f"{NAME} can't run this GEMM: {proof}")
    return proven(proof)
