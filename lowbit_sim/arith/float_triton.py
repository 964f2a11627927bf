"""The floating-point accumulator on a CUDA device: the twin of `float_reference` for when additions round.

As on the CPU (`float_numba`), float32 sums to nearest even, in sequence and of products that are float32 values, are
the machine's own; all else takes a kernel that rounds in integers.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_numba import kernel_draws, kernel_format
from lowbit_sim.arith.lanes_plan import MODES
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.numerics.triton_support import why_no_triton

NAME = "triton_gpu"

#: Accumulators of a program, and its rows at most.
_ACCUMULATORS = 1024
_ROWS = 32

#: Threads of a program, in warps of 32.
_WARPS = 4


def why_not(mac: FloatMacUnit, a: Tensor, b: Tensor) -> str | None:
    """None, or why the kernels can't run this."""
    reason = why_no_triton(a.device)
    if reason:
        return reason
    if mac.order == "tree":
        return "its kernel adds in sequence, not in a tree"
    if a.shape[1] >= 1 << 28:
        return f"a reduction of {a.shape[1]} products is longer than 2^28"
    return None


def run(mac: FloatMacUnit, a: Tensor, b: Tensor, stream: Stream | None, counting: bool = True) -> GemmResult:
    """a [M, K] times b [K, N].

    Args:
        mac: The multiply-accumulate unit.
        a: float32 [M, K].
        b: float32 [K, N].
        stream: Address of the random bits.
        counting: False where nobody asks for overflows and swamped additions.
    """
    out = torch.zeros(a.shape[0], b.shape[1], dtype=torch.float32, device=a.device)
    counts = torch.zeros(3, dtype=torch.int64, device=a.device)
    float32 = _fits_float32(mac, a, b)
    if out.numel() and a.shape[1]:
        _launch(mac, a, b, stream, float32, counting, out, counts)
    overflowed, swamped, impossible = counts.tolist()
    if impossible:
        raise ValueError(f"{impossible} sums are NaN, which a format of this unit has no code for: {mac}")
    return GemmResult(
        values=out,
        overflows=overflowed if counting else None,
        swamped=swamped if counting else None,
        backend=NAME,
        why="float32 arithmetic, as every product is a float32"
        if float32
        else "a rounding for each addition",
    )


def _launch(
    mac: FloatMacUnit,
    a: Tensor,
    b: Tensor,
    stream: Stream | None,
    float32: bool,
    counting: bool,
    out: Tensor,
    counts: Tensor,
) -> None:
    from lowbit_sim.arith import float_triton_kernel as kernel

    (rows, reduction), columns = a.shape, b.shape[1]
    block_m = min(_ROWS, 1 << (rows - 1).bit_length())
    block_n = _ACCUMULATORS // block_m
    left, right = _padded(a.t(), block_m), _padded(b, block_n)
    sizes = (
        rows,
        columns,
        left.shape[1],
        right.shape[1],
        reduction,
        min(mac.chunk_length(reduction), reduction),
    )
    programs = (left.shape[1] // block_m) * (right.shape[1] // block_n)
    options: dict[str, Any] = {
        "HAS_OUTER": mac.has_outer,
        "COUNT": counting,
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "num_warps": _WARPS,
        # Contracted into a multiply-add, a product would not be rounded before it is added.
        "enable_fp_fusion": False,
    }
    with torch.cuda.device(a.device) if a.is_cuda else nullcontext():
        if float32:
            kernel.in_float32[(programs,)](left, right, out, counts, *sizes, **options)
        else:
            numbers, constants = _arguments(mac, reduction, stream)
            kernel.accumulate[(programs,)](left, right, out, counts, *sizes, *numbers, **constants, **options)


def _padded(x: Tensor, block: int) -> Tensor:
    """x [K, n] with zeros up to a whole number of blocks of columns."""
    return F.pad(x, (0, -x.shape[1] % block)).contiguous()


def _arguments(mac: FloatMacUnit, reduction: int, stream: Stream | None) -> tuple[list[Any], dict[str, Any]]:
    """What `float_triton_kernel.accumulate` takes after the sizes, and what is compiled in."""
    random_bits, width, seed, operand, step, site = kernel_draws(mac.rounding, stream)
    # The same 32 bits as signed numbers: Triton types an argument by its value.
    words = [word - (1 << 32) if word >> 31 else word for word in (seed, operand, step, site)]
    formats = [
        _format(mac.accumulator, mac.rounding),
        _format(mac.result_format, mac.rounding),
        _format(mac.product, mac.rounding_of_products),
    ]
    ends = [end for _, ends in formats for end in ends]
    constants = dict(zip(("INNER", "OUTER", "PRODUCT"), (fields for fields, _ in formats), strict=True))
    offset = stream.offset if stream else 0
    return [*words, offset, mac.additions(reduction), *ends], {
        **constants,
        "MODE": MODES[mac.rounding.mode],
        "PRODUCT_MODE": MODES[mac.rounding_of_products.mode],
        "KAHAN": mac.kahan,
        "RANDOM_BITS": random_bits,
        "WIDTH": width,
    }


def _format(
    fmt: FloatFormat | None, rounding: Rounding
) -> tuple[tuple[int, int, int, int], tuple[float, float]]:
    """(mantissa bits, smallest exponent, mantissa bits below it, has NaN), and (largest value, an overflow's)."""
    mantissa_bits, min_exponent, below, largest, beyond, has_nan = kernel_format(fmt, rounding)
    return (mantissa_bits, min_exponent, below, has_nan), (largest, float(beyond))


def _is_float32(fmt: FloatFormat) -> bool:
    return (fmt.exponent_bits, fmt.mantissa_bits, fmt.bias) == (8, 23, 127) and fmt.has_subnormals


def _fits_float32(mac: FloatMacUnit, a: Tensor, b: Tensor) -> bool:
    """Whether the machine's own float32 product and addition have the accumulator's bits; see `float_numba`."""
    if mac.kahan or mac.product is not None or mac.rounding.mode != RoundingMode.NEAREST_EVEN:
        return False
    if not (_is_float32(mac.accumulator) and _is_float32(mac.result_format)):
        return False
    if not (a.numel() and b.numel()) or a.shape[1] >= 1 << 20:
        return False
    (bits_a, last_a, largest_a), (bits_b, last_b, largest_b) = extents(a, b)
    if not a.shape[1] * largest_a * largest_b <= 2.0**126:  # NaN too
        return False
    # A power of two has one bit, which widens no product.
    return bits_a + bits_b - (1 in (bits_a, bits_b)) <= 24 and last_a + last_b >= -149


def extents(*tensors: Tensor) -> list[tuple[int, int, float]]:
    """Of each tensor the most significant bits of an element, the smallest exponent of a last place, and the largest
    magnitude; a device is waited for once.

    The lowest bit that is set in any fraction is the smallest of the fractions' lowest bits; zeros have none but the
    leading one's place.
    """
    found = []
    for x in tensors:
        bits = x.contiguous().view(torch.int32)
        fraction = (bits & 0x7FFFFF) | 1 << 23
        magnitude = bits & 0x7FFFFFFF
        smallest = torch.where(magnitude == 0, 0x7FFFFFFF, magnitude).amin()
        found += [(fraction & -fraction).amin(), smallest, magnitude.amax()]
    numbers = torch.stack(found)
    magnitudes = numbers.view(torch.float32).tolist()
    whole = numbers.tolist()
    result = []
    for i in range(0, len(whole), 3):
        significant = 24 - (whole[i].bit_length() - 1)
        field = 0 if whole[i + 1] == 0x7FFFFFFF else whole[i + 1] >> 23
        result.append((significant, max(field, 1) - 127 - (significant - 1), magnitudes[i + 2]))
    return result
