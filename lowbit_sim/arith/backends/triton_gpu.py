"""The sequential accumulator on a CUDA device: the twin of `reference` for when the order of summation matters.

Operands are packed along k, padded with zeros to whole words of each chunk and to whole blocks of rows and columns: a
zero product changes no accumulator that is in range. `triton_kernel` runs them.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.arith.bounds import MAX_OPERAND, dtype_magnitude
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.products import ProductTable
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.rounding import RoundingMode
from lowbit_sim.numerics.triton_support import why_no_triton

NAME = "triton_gpu"

#: Widest accumulator with room in an int64 lane for a sum that is yet to be wrapped or clipped. A wider one can't
#: overflow while K times the largest product stays below 2^61, so it is run at this width.
_WIDEST = 62

#: Accumulators of a program: so many rows and columns at most, and at least this many of each.
BLOCK = 64
_SMALLEST_BLOCK = 16

#: Threads of a program, in warps of 32.
_WARPS = 4

#: A count of one accumulator's overflows is an int32.
_MOST_ADDITIONS = 1 << 30


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """None, or why the kernel can't run this."""
    reason = why_no_triton(a.device)
    if reason:
        return reason
    if mac.order == "tree" and mac.overflow_at == "addition":
        return "its kernel adds in sequence, not in a tree"
    if a.shape[1] >= _MOST_ADDITIONS:
        return f"a reduction of {a.shape[1]} products is longer than 2^30"
    if max(a.shape[1], 1) * _product(mac, a, b) >= 1 << (_WIDEST - 1):
        return f"sums of {a.shape[1]} products may leave an int64 lane"
    return None


def _product(mac: MacUnit, a: Tensor, b: Tensor) -> int:
    """The largest magnitude of a product of codes."""
    if mac.products is not None:
        return mac.products.largest
    return min(dtype_magnitude(a), MAX_OPERAND) * min(dtype_magnitude(b), MAX_OPERAND)


def _needs_int64(mac: MacUnit, a: Tensor, b: Tensor) -> bool:
    """Whether a sum formed before wrapping or clipping may leave int32."""
    product = _product(mac, a, b)
    inner_high, outer_high = 1 << (mac.accumulator_bits - 1), 1 << (mac.result_bits - 1)
    exact = mac.chunk_length(a.shape[1]) * product
    inner = inner_high + product if mac.overflow_at == "addition" else exact
    moved = exact if mac.overflow_at == "outer" else inner_high
    return max(inner, outer_high + moved, product) >= 1 << 31


def _range(bits: int, overflow: str) -> tuple[int, int, int]:
    """Smallest and largest value and mask of an accumulator."""
    bits = min(bits, _WIDEST)
    return *accumulator_range(bits, overflow), (1 << bits) - 1


def run(mac: MacUnit, a: Tensor, b: Tensor, *, count_overflows: bool = True) -> GemmResult:
    """a [M, K] times b [K, N]."""
    lane = torch.int64 if _needs_int64(mac, a, b) else torch.int32
    out = torch.zeros(a.shape[0], b.shape[1], dtype=lane, device=a.device)
    count = torch.zeros((), dtype=torch.int64, device=a.device)
    if out.numel() and a.shape[1]:
        _launch(mac, a, b, out, count, count_overflows)
    values = out.to(result_dtype(mac))
    return GemmResult(
        values=values << mac.truncated_bits if mac.truncated_bits else values,
        overflows=int(count) if count_overflows else None,
        backend=NAME,
        why=f"{mac.order} accumulation",
    )


def _launch(mac: MacUnit, a: Tensor, b: Tensor, out: Tensor, count: Tensor, count_overflows: bool) -> None:
    from lowbit_sim.arith.backends import triton_kernel as kernel

    (rows, reduction), columns = a.shape, b.shape[1]
    chunk = min(mac.chunk_length(reduction), reduction)
    block_m, block_n = _block(rows), _block(columns)
    has_table = not mac.exact_products
    dtype = torch.int32 if has_table else _word_parts(a, b)
    left, right = pack(a.t(), chunk, block_m, dtype), pack(b, chunk, block_n, dtype)
    table = _table(mac.products, a.device) if has_table and mac.products is not None else left
    rule = kernel.WRAP if mac.overflow == "wrap" else kernel.CLIP
    options: dict[str, Any] = {
        "LANE": kernel.lane(out.dtype),
        "PER_WORD": 4 // dtype.itemsize,
        "ADDITION": rule if mac.overflow_at == "addition" else kernel.EXACT,
        "AT_CHUNK": rule if mac.overflow_at == "chunk" else kernel.EXACT,
        "OUTER": rule,
        "TRUNCATION": _truncation(mac),
        "HAS_TABLE": has_table,
        "COUNT": count_overflows,
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "num_warps": _WARPS,
    }
    programs = (left.shape[2] // block_m) * (right.shape[2] // block_n)
    with torch.cuda.device(a.device) if a.is_cuda else nullcontext():
        kernel.multiply_accumulate[(programs,)](
            left,
            right,
            table,
            out,
            count,
            rows,
            columns,
            left.shape[2],
            right.shape[2],
            reduction,
            chunk,
            left.shape[1],
            table.shape[0],
            mac.truncated_bits,
            *_range(mac.accumulator_bits, mac.overflow),
            *_range(mac.result_bits, mac.overflow),
            **options,
        )


def _block(size: int) -> int:
    """Rows or columns of a program: a power of two."""
    return min(BLOCK, max(_SMALLEST_BLOCK, 1 << (size - 1).bit_length()))


def _word_parts(a: Tensor, b: Tensor) -> torch.dtype:
    """The dtype that both operands' codes are packed in."""
    narrow = {torch.int8: torch.int8, torch.uint8: torch.int16, torch.int16: torch.int16}
    return max((narrow.get(x.dtype, torch.int32) for x in (a, b)), key=lambda dtype: dtype.itemsize)


def _truncation(mac: MacUnit) -> int:
    from lowbit_sim.arith.backends import triton_kernel as kernel

    if not mac.truncated_bits:
        return kernel.KEEP
    codes = {
        RoundingMode.DOWN: kernel.DOWN,
        RoundingMode.UP: kernel.UP,
        RoundingMode.TOWARD_ZERO: kernel.TOWARD_ZERO,
        RoundingMode.NEAREST_EVEN: kernel.NEAREST_EVEN,
        RoundingMode.NEAREST_AWAY: kernel.NEAREST_AWAY,
    }
    return codes[RoundingMode(mac.truncation)]


def pack(x: Tensor, chunk: int, block: int, dtype: torch.dtype) -> Tensor:
    """Codes [K, n] as int32 words [chunks, words of a chunk, n up to a whole block], zeros where there is no code.

    Args:
        x: The codes.
        chunk: Products of a chunk, from 1 to K.
        block: What the last axis is a multiple of.
        dtype: What a code takes of a word: int8, int16 or int32.
    """
    reduction, size = x.shape
    per_word, padded = 4 // dtype.itemsize, -(-size // block) * block
    chunks, words = -(-reduction // chunk), -(-chunk // per_word)
    codes = torch.zeros(chunks, words * per_word, padded, dtype=dtype, device=x.device)
    full = reduction // chunk
    codes[:full, :chunk, :size] = x[: full * chunk].reshape(full, chunk, size).to(dtype)
    if full < chunks:
        codes[full, : reduction - full * chunk, :size] = x[full * chunk :].to(dtype)
    parts = codes.view(chunks, words, per_word, padded).transpose(2, 3).contiguous()
    return parts.view(torch.int32).view(chunks, words, padded)


@functools.lru_cache(maxsize=16)
def _table(products: ProductTable, device: torch.device) -> Tensor:
    """The products on a device: int32 [2^bits, 2^bits]."""
    return torch.tensor(products.table, device=device)
