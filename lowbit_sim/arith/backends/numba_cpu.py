"""The sequential accumulator, compiled: the twin of `reference` for when the order of summation matters.

A row of accumulators runs along the longer side of the result, so that the innermost loop adds one operand's
multiple of a contiguous row to a contiguous row of accumulators: a vector instruction updates as many
accumulators as it has lanes, while each accumulator still sees its k in ascending order. A zero multiplier is
skipped, as adding zero to an accumulator that is in range never overflows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.bounds import MAX_OPERAND, dtype_magnitude
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.result import GemmResult, result_dtype

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
    if max(a.shape[1], 1) * _product(a, b) >= 1 << (_WIDEST - 1):
        return f"sums of {a.shape[1]} products may leave an int64 lane"
    return None


def _product(a: Tensor, b: Tensor) -> int:
    """The largest magnitude of a product of codes."""
    return min(dtype_magnitude(a), MAX_OPERAND) * min(dtype_magnitude(b), MAX_OPERAND)


def _lane(mac: MacUnit, a: Tensor, b: Tensor) -> type[np.signedinteger]:
    """int32 if every sum formed before wrapping or clipping fits it, else int64."""
    widest = max(mac.accumulator_bits, mac.result_bits)
    # An inner sum is at most one accumulator plus one product, an outer sum two accumulators.
    largest = (1 << (widest - 1)) + max(_product(a, b), 1 << (mac.accumulator_bits - 1))
    return np.int32 if largest < 1 << 31 else np.int64


def _element(a: Tensor, b: Tensor) -> torch.dtype:
    """The dtype that the kernel reads: two in all, because each one more is compiled for every lane and rule."""
    return torch.int8 if a.dtype == b.dtype == torch.int8 else torch.int32


def _range(bits: int, lane: type[np.signedinteger]) -> np.ndarray:
    bits = min(bits, _WIDEST)
    low, high = accumulator_range(bits)
    return np.array([low, high, (1 << bits) - 1], dtype=np.int64).astype(lane)


def run(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """a [M, K] times b [K, N]."""
    from lowbit_sim.arith.backends.sequential_kernel import sequential
    from lowbit_sim.numerics.threads import match_torch_threads

    # a b = (b^T a^T)^T, and products commute: the long side becomes the contiguous row of accumulators.
    transposed = a.shape[0] > b.shape[1]
    left, right = (b.t(), a.t()) if transposed else (a, b)
    lane = _lane(mac, a, b)
    columns = right.shape[1]
    blocks = -(-columns // BLOCK)
    out = np.zeros((left.shape[0], columns), dtype=lane)
    counts = np.zeros(left.shape[0] * blocks, dtype=np.int64)
    if out.size and a.shape[1]:
        match_torch_threads(out.size * a.shape[1] // _MACS_PER_THREAD)
        sequential(mac.overflow == "saturate")(
            left.to(_element(a, b)).contiguous().numpy(),
            right.to(_element(a, b)).contiguous().numpy(),
            mac.chunk_length(a.shape[1]),
            _range(mac.accumulator_bits, lane),
            _range(mac.result_bits, lane),
            BLOCK,
            out,
            counts,
        )
    values = torch.from_numpy(out).to(result_dtype(mac))
    return GemmResult(
        values=(values.t() if transposed else values).contiguous(),
        overflows=int(counts.sum()),
        backend=NAME,
        why="sequential accumulation",
    )
