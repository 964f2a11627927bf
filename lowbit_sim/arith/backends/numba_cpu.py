"""The sequential accumulator, compiled: the twin of `reference` for when the order of summation matters.

Accumulators lie side by side in the lanes of vector instructions, along the longer side of the result, while each of
them sees its k in ascending order. Two kernels: `tile_kernel` for exact products added one by one under an overflow
rule, with its accumulators in registers; `general_kernel` for everything else.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.backends.lanes import (
    CLIP,
    FOLD,
    ROWS,
    WIDEST,
    choose_lanes,
    columns_of_tile,
    largest_product,
    limits,
    mode,
)
from lowbit_sim.arith.bounds import MAX_OPERAND, dtype_magnitude
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.rounding import MODE_CODES

NAME = "numba_cpu"

#: Accumulators that one task of the general kernel holds: small enough for the first-level cache beside the rows
#: it reads.
BLOCK = 512

#: Multiply-accumulates that make another thread worth starting.
_MACS_PER_THREAD = 1 << 17

# Rows of a tile kernel's task: few enough for a task's accumulators to stay in the second-level cache, enough to
# pay for packing its columns.
_FEWEST_ROWS, _MOST_ROWS = 32, 256

#: Tasks for each thread, so that none waits long for the last one.
_TASKS_PER_THREAD = 4


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """None, or why the compiled accumulator can't hold the sums."""
    if a.device.type != "cpu":
        return f"runs on the CPU, the operands are on {a.device}"
    if max(a.shape[1], 1) * _product(mac, a, b) >= 1 << (WIDEST - 1):
        return f"sums of {a.shape[1]} products may leave an int64 lane"
    return None


def _product(mac: MacUnit, a: Tensor, b: Tensor) -> int:
    """The largest magnitude of a product of codes."""
    if mac.products is not None:
        return mac.products.largest
    return min(dtype_magnitude(a), MAX_OPERAND) * min(dtype_magnitude(b), MAX_OPERAND)


def _lane(mac: MacUnit, a: Tensor, b: Tensor) -> type[np.signedinteger]:
    """The general kernel's lane: int32 if every sum formed before wrapping or clipping fits it, else int64."""
    product = _product(mac, a, b)
    inner_high, outer_high = 1 << (mac.accumulator_bits - 1), 1 << (mac.result_bits - 1)
    exact = mac.chunk_length(a.shape[1]) * product
    # An inner sum is at most one accumulator and one product (in a tree, two accumulators), or a chunk's exact
    # sum; an outer sum is at most one accumulator and what a chunk moves on.
    inner = inner_high + max(product, inner_high) if mac.overflow_at == "addition" else exact
    moved = exact if mac.overflow_at == "outer" else inner_high
    largest = max(inner, outer_high + moved, product)
    return np.int32 if largest < 1 << 31 else np.int64


def _range(bits: int, overflow: str, lane: type[np.signedinteger]) -> np.ndarray:
    bits = min(bits, WIDEST)
    low, high = accumulator_range(bits, overflow)
    return np.array([low, high, (1 << bits) - 1], dtype=np.int64).astype(lane)


def _is_plain(mac: MacUnit) -> bool:
    """Whether the tile kernel is this MAC unit's."""
    return (
        mac.exact_products
        and mac.overflow_at == "addition"
        and mac.order == "sequential"
        and not mac.truncated_bits
    )


def run(mac: MacUnit, a: Tensor, b: Tensor, *, count_overflows: bool = True) -> GemmResult:
    """a [M, K] times b [K, N].

    Without `count_overflows` the result's `overflows` may be None; counting costs the tile kernel its fastest loop.
    """
    if _is_plain(mac):
        return run_batch(mac, a[None], b[None], count_overflows=count_overflows)[0]
    values, overflows = _run_general(mac, a, b)
    return GemmResult(values=values, overflows=overflows, backend=NAME, why=f"{mac.order} accumulation")


def runs_batches(mac: MacUnit) -> bool:
    """Whether `run_batch` runs this MAC unit."""
    return _is_plain(mac)


def run_batch(mac: MacUnit, a: Tensor, b: Tensor, *, count_overflows: bool = True) -> list[GemmResult]:
    """a [batch, M, K] times b [batch, K, N] in one parallel region, given that `runs_batches`."""
    batch, rows, reduction = a.shape
    counts = [0] * batch
    if batch and rows and reduction and b.shape[2]:
        values, counts = _run_tiled(mac, a, b, count_overflows)
    else:
        values = torch.zeros(batch, rows, b.shape[2], dtype=result_dtype(mac), device=a.device)
    return [
        GemmResult(values=v, overflows=n, backend=NAME, why="sequential accumulation")
        for v, n in zip(values.to(result_dtype(mac)).unbind(), counts, strict=True)
    ]


def _run_tiled(mac: MacUnit, a: Tensor, b: Tensor, counting: bool) -> tuple[Tensor, list[int] | list[None]]:
    """Values [batch, M, N] and the overflows of each GEMM."""
    from lowbit_sim.arith.backends import tile_kernel
    from lowbit_sim.numerics.threads import match_torch_threads

    batch, _, reduction = a.shape
    lanes = choose_lanes(mac, reduction, largest_product(mac, a, b))
    out = a.new_empty(batch, a.shape[1], b.shape[2], dtype=getattr(torch, f"int{lanes.outer_width}"))
    match_torch_threads(out.numel() * reduction // _MACS_PER_THREAD)
    dtype = torch.int8 if a.dtype == b.dtype == torch.int8 else torch.int32
    left, right, result = _orient(a.to(dtype), b.to(dtype), out, columns_of_tile(lanes.width))
    _, rows, columns = result.shape
    across = -(-columns // tile_kernel.TASK_COLUMNS)
    task_rows = _task_rows(rows, across * batch)
    counts = np.zeros((batch, -(-rows // task_rows) * across), dtype=np.int64)
    outer_rule = FOLD if mac.overflow == "wrap" else CLIP
    tile_kernel.tiled(lanes.width, lanes.outer_width, str(dtype).removeprefix("torch."))(
        _memory(left),
        _memory(right),
        np.array([batch, rows, reduction, columns, mac.chunk_length(reduction), task_rows, lanes.shift]),
        np.array([*left.stride(), *right.stride(), *result.stride()]),
        np.array([*limits(mac.accumulator_bits, mac.overflow, lanes.width), mode(lanes.rule, counting)]),
        np.array([*limits(mac.result_bits, mac.overflow, lanes.outer_width), mode(outer_rule, counting)]),
        _memory(out),
        counts.reshape(-1),
    )
    return out, counts.sum(axis=1).tolist() if counting else [None] * batch


def _orient(a: Tensor, b: Tensor, out: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The operands and the result, transposed (a b = (b^T a^T)^T) where whole tiles then cover less."""

    def covered(rows: int, columns: int) -> int:
        return -(-rows // ROWS) * ROWS * (-(-columns // width) * width)

    if covered(*out.shape[1:]) > covered(*out.mT.shape[1:]):
        return b.mT, a.mT, out.mT
    return a, b, out


def _task_rows(rows: int, across: int) -> int:
    """Rows of a task: a multiple of a tile's."""
    wanted = rows * across // (_TASKS_PER_THREAD * torch.get_num_threads())
    return max(_FEWEST_ROWS, min(wanted // ROWS * ROWS, _MOST_ROWS))


def _memory(x: Tensor) -> np.ndarray:
    """What lies between the first and the last element of a tensor, flat."""
    span = 1 + sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
    return x.detach().as_strided((span,), (1,)).numpy()


def _run_general(mac: MacUnit, a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    from lowbit_sim.arith.backends import general_kernel as kernel
    from lowbit_sim.numerics.threads import match_torch_threads

    if not (a.numel() and b.numel()):
        return torch.zeros(a.shape[0], b.shape[1], dtype=result_dtype(mac), device=a.device), 0
    match_torch_threads(a.shape[0] * b.numel() // _MACS_PER_THREAD)
    # a b = (b^T a^T)^T with the table of products transposed: the long side becomes the row of accumulators.
    transposed = a.shape[0] > b.shape[1]
    left, right = (b.t(), a.t()) if transposed else (a, b)
    lane, chunk, columns = _lane(mac, a, b), mac.chunk_length(a.shape[1]), right.shape[1]
    out = np.zeros((left.shape[0], columns), dtype=lane)
    counts = np.zeros(left.shape[0] * -(-columns // BLOCK), dtype=np.int64)
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
    values = torch.from_numpy(out).to(result_dtype(mac)) << mac.truncated_bits
    return (values.t() if transposed else values).contiguous(), int(counts.sum())


def _table(mac: MacUnit, transposed: bool) -> np.ndarray:
    """The products by (code of the left, code of the right operand of the kernel); empty for exact ones."""
    if mac.products is None or mac.products.is_exact:
        return np.zeros((0, 0), dtype=np.int32)
    table = mac.products.table
    # numba compiles once more for a read-only array; the kernel does not write to it.
    return np.array(table.T if transposed else table, order="C")
