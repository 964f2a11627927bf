"""The sequential accumulator, compiled: the twin of `reference` for when the order of summation matters.

A row of accumulators runs along the longer side of the result, so that the innermost loop adds one operand's
multiple of a contiguous row to a contiguous row of accumulators: a vector instruction updates as many
accumulators as it has lanes, while each accumulator still sees its k in ascending order. A zero multiplier is
skipped, as adding zero to an accumulator that is in range never overflows.

Two kernels: `sequential_kernel` for exact products added one by one under an overflow rule, in few instructions;
`general_kernel` for everything else.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.bounds import MAX_OPERAND, dtype_magnitude
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.rounding import MODE_CODES

NAME = "numba_cpu"

#: Widest accumulator with room in an int64 lane for a sum that is yet to be wrapped or clipped. A wider one
#: can't overflow while K times the largest product stays below 2^61, so it is run at this width.
_WIDEST = 62

#: Accumulators that one task holds: small enough for the first-level cache beside the rows it reads.
BLOCK = 512

#: Multiply-accumulates that make another thread worth starting.
_MACS_PER_THREAD = 1 << 17


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """None, or why the compiled accumulator can't hold the sums."""
    if a.device.type != "cpu":
        return f"runs on the CPU, the operands are on {a.device}"
    if max(a.shape[1], 1) * _product(mac, a, b) >= 1 << (_WIDEST - 1):
        return f"sums of {a.shape[1]} products may leave an int64 lane"
    return None


def _product(mac: MacUnit, a: Tensor, b: Tensor) -> int:
    """The largest magnitude of a product of codes."""
    if mac.products is not None:
        return mac.products.largest
    return min(dtype_magnitude(a), MAX_OPERAND) * min(dtype_magnitude(b), MAX_OPERAND)


def _lane(mac: MacUnit, a: Tensor, b: Tensor) -> type[np.signedinteger]:
    """int32 if every sum formed before wrapping or clipping fits it, else int64."""
    product = _product(mac, a, b)
    inner_high, outer_high = 1 << (mac.accumulator_bits - 1), 1 << (mac.result_bits - 1)
    exact = mac.chunk_length(a.shape[1]) * product
    # An inner sum is at most one accumulator and one product (in a tree, two accumulators), or a chunk's exact
    # sum; an outer sum is at most one accumulator and what a chunk moves on.
    inner = inner_high + max(product, inner_high) if mac.overflow_at == "addition" else exact
    moved = exact if mac.overflow_at == "outer" else inner_high
    largest = max(inner, outer_high + moved, product)
    return np.int32 if largest < 1 << 31 else np.int64


def _element(a: Tensor, b: Tensor) -> torch.dtype:
    """The dtype that the kernel reads: two in all, because each one more is compiled for every lane and rule."""
    return torch.int8 if a.dtype == b.dtype == torch.int8 else torch.int32


def _range(bits: int, overflow: str, lane: type[np.signedinteger]) -> np.ndarray:
    bits = min(bits, _WIDEST)
    low, high = accumulator_range(bits, overflow)
    return np.array([low, high, (1 << bits) - 1], dtype=np.int64).astype(lane)


def _is_plain(mac: MacUnit) -> bool:
    """Whether the sequential kernel is this MAC unit's."""
    return (
        mac.exact_products
        and mac.overflow_at == "addition"
        and mac.order == "sequential"
        and not mac.truncated_bits
    )


def run(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """a [M, K] times b [K, N]."""
    from lowbit_sim.numerics.threads import match_torch_threads

    # a b = (b^T a^T)^T with the table of products transposed: the long side becomes the row of accumulators.
    transposed = a.shape[0] > b.shape[1]
    left, right = (b.t(), a.t()) if transposed else (a, b)
    lane = _lane(mac, a, b)
    columns = right.shape[1]
    out = np.zeros((left.shape[0], columns), dtype=lane)
    counts = np.zeros(left.shape[0] * -(-columns // BLOCK), dtype=np.int64)
    if out.size and a.shape[1]:
        match_torch_threads(out.size * a.shape[1] // _MACS_PER_THREAD)
        if _is_plain(mac):
            _run_sequential(mac, left, right, out, counts)
        else:
            _run_general(mac, left, right, transposed, out, counts)
    values = torch.from_numpy(out).to(result_dtype(mac)) << mac.truncated_bits
    return GemmResult(
        values=(values.t() if transposed else values).contiguous(),
        overflows=int(counts.sum()),
        backend=NAME,
        why=f"{mac.order} accumulation",
    )


def _run_sequential(mac: MacUnit, left: Tensor, right: Tensor, out: np.ndarray, counts: np.ndarray) -> None:
    from lowbit_sim.arith.backends.sequential_kernel import sequential

    element, lane = _element(left, right), out.dtype.type
    sequential(mac.overflow != "wrap")(
        left.to(element).contiguous().numpy(),
        right.to(element).contiguous().numpy(),
        mac.chunk_length(left.shape[1]),
        _range(mac.accumulator_bits, mac.overflow, lane),
        _range(mac.result_bits, mac.overflow, lane),
        BLOCK,
        out,
        counts,
    )


def _run_general(
    mac: MacUnit, left: Tensor, right: Tensor, transposed: bool, out: np.ndarray, counts: np.ndarray
) -> None:
    from lowbit_sim.arith.backends import general_kernel as kernel

    lane, chunk = out.dtype.type, mac.chunk_length(left.shape[1])
    rule = kernel.WRAP if mac.overflow == "wrap" else kernel.CLIP
    each_addition = mac.overflow_at == "addition"
    # Exact sums are the same in any order.
    tree = each_addition and mac.order == "tree"
    at_chunk = mac.overflow_at == "chunk"
    kernel.general(
        left.to(torch.int32).contiguous().numpy(),
        right.to(torch.int32).contiguous().numpy(),
        _table(mac, transposed),
        chunk,
        min(chunk, left.shape[1]).bit_length() if tree else 0,
        np.array([rule if each_addition else kernel.EXACT, rule if at_chunk else kernel.EXACT, rule]),
        mac.truncated_bits,
        MODE_CODES[mac.truncation],
        _range(mac.accumulator_bits, mac.overflow, lane),
        _range(mac.result_bits, mac.overflow, lane),
        BLOCK,
        out,
        counts,
    )


def _table(mac: MacUnit, transposed: bool) -> np.ndarray:
    """The products by (code of the left, code of the right operand of the kernel); empty for exact ones."""
    if mac.products is None or mac.products.is_exact:
        return np.zeros((0, 0), dtype=np.int32)
    table = mac.products.table
    # numba compiles once more for a read-only array; the kernel does not write to it.
    return np.array(table.T if transposed else table, order="C")
